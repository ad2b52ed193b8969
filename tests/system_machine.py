#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a machine that sipward is installed on: a whole Debian with systemd, from the package's installation to its removal.
The tests are its chapters, in their order; after the first that fails there is no going on."""
import os
import pathlib
import re
import shutil
import sys
import time
import unittest

from lab.attackers import SCANNER, Attacks
from lab.case import measured, skip
from lab.machine import TOOLS, Held, Machine, build_package, debian_root, folder, later_version
from lab.network import wait_until

OFFENDER, NEXT_OFFENDER = "198.51.100.66", "198.51.100.77"
RUNNING = ("systemctl", "is-active", "--quiet", "sipward")


class Life(unittest.TestCase):
    machine: Machine
    packages: pathlib.Path

    def do(self, *words):
        """A command on the machine that must succeed; what it prints."""
        done = self.machine.inside_run(*words, check=False, timeout=120)
        self.assertEqual(done.returncode, 0, f"{' '.join(words)}: {done.stdout} {done.stderr}")
        return done.stdout

    def says(self, *words):
        """Does a command on the machine succeed?"""
        return self.machine.inside_run(*words, check=False, timeout=120).returncode == 0

    def apt(self, *words):
        return self.do("apt-get", "--quiet", "--yes", "--no-install-recommends", *words)

    def tables(self):
        return [line for line in self.do("nft", "list", "tables").splitlines() if "sipward" in line]

    def attack(self, source=OFFENDER):
        self.attacks.flood(source, count=3, per_second=50, user_agent=SCANNER)

    def is_blocked(self, source=OFFENDER, seconds=5):
        return wait_until(lambda: source in {e["val"] for e in self.machine.elements("edge", "sipward", "blocked_v4")}, seconds)

    def test_01_installation_starts_nothing(self):
        type(self).attacks = Attacks(self.machine)
        self.machine.put(self.packages / "now.deb", "/root/sipward.deb")
        type(self).begun = time.monotonic()
        said = self.apt("install", "/root/sipward.deb")
        self.assertIn("ports.outside", said)
        self.assertFalse(self.says(*RUNNING))
        self.assertFalse(self.says("systemctl", "is-enabled", "--quiet", "sipward"))
        self.assertEqual(self.tables(), [])
        self.do("id", "sipward")

    def test_02_one_edit_and_it_protects(self):
        settings = self.machine.path("/etc/sipward/sipward.yaml")
        text = settings.read_text()
        self.assertIn("  outside: eth0\n", text)
        settings.write_text(text.replace("  outside: eth0\n", "  outside: eth1\n"))
        self.do("systemctl", "enable", "--now", "sipward")
        self.attack()
        self.assertTrue(self.is_blocked())
        measured(f"package install to the first block: {time.monotonic() - self.begun:.1f} s")
        before = self.machine.reached(OFFENDER)
        self.attack()
        self.assertEqual(self.machine.reached(OFFENDER), before)

    def test_03_it_is_no_root_and_keeps_one_capability(self):
        pid = self.machine.main_pid()
        self.assertEqual(self.do("ps", "-o", "user=", "-p", str(pid)).strip(), "sipward")
        threads = list(pathlib.Path(f"/proc/{self.machine.outer_pid(pid)}/task").iterdir())
        self.assertGreater(len(threads), 2)
        for thread in threads:
            status = (thread / "status").read_text()
            held = {name: int(re.search(rf"^{name}:\t(\w+)$", status, re.MULTILINE)[1], 16) for name in ("CapPrm", "CapEff")}
            self.assertEqual(held, {"CapPrm": 1 << 12, "CapEff": 1 << 12}, f"CAP_NET_ADMIN only: {(thread / 'comm').read_text()}")
            self.assertIn("NoNewPrivs:\t1", status)

    def test_04_the_journal_knows_who_was_blocked_and_why(self):
        told = self.machine.journal(f"SIPWARD_SUBJECT={OFFENDER}/32", "SIPWARD_REASON=scanner")
        self.assertRegex(told, rf"^block {OFFENDER}/32 reason=scanner")
        self.assertIn("protecting: monitor on eth1", self.machine.journal())
        self.assertIn("blocked", self.do("systemctl", "show", "--property=StatusText", "sipward"))

    def test_05_nothing_it_is_forbidden_is_missed(self):
        self.assertEqual(self.machine.journal("--priority=warning").replace("alert - ", "").count("Operation not permitted"), 0, self.machine.journal())

    def test_06_the_log_is_rotated_and_written_on(self):
        log = self.machine.path("/var/log/sipward/block.log")
        self.do("logrotate", "--force", "/etc/logrotate.d/sipward")
        self.assertIn(OFFENDER, log.with_name("block.log.1").read_text())
        time.sleep(1.1)  # within a second, says the daemon
        self.do("sipward", "block", "203.0.113.9", "--for", "1h")
        self.assertTrue(wait_until(lambda: "203.0.113.9" in log.read_text(), 5))

    def test_07_a_bad_file_fails_the_reload_and_harms_nothing(self):
        settings = self.machine.path("/etc/sipward/sipward.yaml")
        good, pid = settings.read_text(), self.machine.main_pid()
        settings.write_text(good + "nonsense: 1\n")
        self.assertFalse(self.says("systemctl", "reload", "sipward"))
        self.assertRegex(self.machine.journal(), r"sipward\.yaml:\d+:\d+: ")
        settings.write_text(good)
        self.do("systemctl", "reload", "sipward")
        self.assertEqual(self.machine.main_pid(), pid)
        self.do("sipward", "status")

    def test_08_killed_it_protects_again_within_two_seconds(self):
        before = self.machine.main_pid()
        killed = time.monotonic()
        self.do("kill", "-KILL", str(before))
        self.assertTrue(self.is_blocked(seconds=0), "in monitor mode the kernel goes on dropping")
        self.assertTrue(wait_until(lambda: self.machine.main_pid() not in (0, before) and self.says("sipward", "status"), 10))
        took = time.monotonic() - killed
        measured(f"kill -9 to protecting again: {took:.2f} s")
        self.assertLess(took, 2 if os.cpu_count() > 1 and os.getloadavg()[0] < os.cpu_count() + 1 else 10)
        self.assertTrue(self.is_blocked())
        self.attack(NEXT_OFFENDER)
        self.assertTrue(self.is_blocked(NEXT_OFFENDER))

    def test_09_a_worker_that_stands_still_has_it_started_anew(self):
        before = self.machine.main_pid()
        started = time.monotonic()
        with Held(self.machine.outer_pid(before), "worker-0") as worker:
            self.assertTrue(wait_until(lambda: worker.reaped() and self.machine.main_pid() not in (0, before), 40, interval=0.2))
        self.assertTrue(wait_until(lambda: self.says("sipward", "status"), 10))
        measured(f"a stopped worker to protecting again: {time.monotonic() - started:.1f} s")
        self.assertIn("worker 0 stands still", self.machine.journal())
        self.assertIn("watchdog", self.machine.journal().lower())
        self.assertTrue(self.is_blocked())

    def test_10_after_a_reboot_it_starts_by_itself_with_its_blocks(self):
        self.machine.reboot()
        self.assertTrue(wait_until(lambda: self.says("sipward", "status"), 20))
        self.assertTrue(self.is_blocked())
        self.assertTrue(self.is_blocked("203.0.113.9"))
        before = self.machine.reached(OFFENDER)
        self.attack()
        self.assertEqual(self.machine.reached(OFFENDER), before)

    def test_11_an_upgrade_keeps_blocks_and_settings(self):
        before = self.machine.main_pid()
        self.machine.put(self.packages / "later.deb", "/root/sipward.deb")
        self.apt("install", "/root/sipward.deb")
        self.assertIn("outside: eth1", self.machine.path("/etc/sipward/sipward.yaml").read_text())
        self.assertTrue(wait_until(lambda: self.machine.main_pid() not in (0, before) and self.says("sipward", "status"), 10))
        self.assertTrue(self.is_blocked())

    def test_12_removal_leaves_no_table_and_keeps_what_is_the_operators(self):
        self.apt("remove", "sipward")
        self.assertEqual(self.tables(), [])
        self.assertIn("outside: eth1", self.machine.path("/etc/sipward/sipward.yaml").read_text())
        self.assertTrue(self.machine.path("/var/lib/sipward/sipward.db").exists())

    def test_13_purge_leaves_no_file(self):
        self.apt("purge", "sipward")
        left = self.do("find", "/etc", "/usr", "/var", "/run", "/opt", "-xdev", "-path", "/run/host", "-prune", "-o", "-path", "/run/systemd", "-prune", "-o", "-name", "*sipward*", "-print")
        self.assertEqual(left, "")


def main():
    if os.geteuid():
        skip("it boots a container: run it as root")
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        skip(f"not installed: {', '.join(missing)} (tests/packages names what is needed)")
    program = pathlib.Path(sys.argv.pop(1)).resolve()
    build = program.parents[1]
    with folder() as Life.packages:
        package = build_package(build, Life.packages / "cpack")
        package.rename(Life.packages / "now.deb")
        later_version(Life.packages / "now.deb", Life.packages)
        root = debian_root(build / "machine", Life.packages / "now.deb")
        with Machine("swm", root) as Life.machine:
            try:
                Life.machine.boot()
            except RuntimeError as error:
                skip(f"no container can be booted here: {error}")
            result = unittest.main(verbosity=2, failfast=True, exit=False).result
            if not result.wasSuccessful():
                print(Life.machine.journal()[-6000:])
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
