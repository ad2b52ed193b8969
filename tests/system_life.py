#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's life: how it starts, or says why it cannot; how little it needs; how it ends and what it leaves."""
import contextlib
import pathlib
import re
import time
import unittest

from lab import Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main, measured
from lab.sipward import settings

HUGEPAGES = "/proc/sys/vm/nr_hugepages"


class Stop(LabTest):
    def blocked_then_stopped(self, on_stop):
        daemon = Sipward(self.lab, self.program, nftables={"on_stop": on_stop})
        with self.honest_phones():
            self.lab.attacks.flood("198.51.100.66", count=2, per_second=20, user_agent=SCANNER)
            self.assertTrue(daemon.holds("198.51.100.66"))
            code, seconds = daemon.stop()
        self.assertEqual(code, 0, daemon.output())
        self.assertLess(seconds, 5)
        return daemon

    def test_remove_leaves_no_table(self):
        daemon = self.blocked_then_stopped("remove")
        self.assertFalse(daemon.table())

    def test_keep_leaves_the_set_in_force(self):
        daemon = self.blocked_then_stopped("keep")
        self.addCleanup(self.lab.run, "edge", ["nft", "delete table inet sipward"])
        self.assertTrue(daemon.holds("198.51.100.66", seconds=0))
        before = self.lab.reached("198.51.100.66")
        self.lab.attacks.flood("198.51.100.66", count=20, per_second=100)
        self.assertEqual(self.lab.reached("198.51.100.66"), before)

    def test_flush_and_unblock_work_on_what_a_stopped_daemon_left(self):
        daemon = self.blocked_then_stopped("keep")
        self.assertEqual(daemon.command("unblock", "198.51.100.99").returncode, 1)
        self.assertEqual(daemon.command("unblock", "198.51.100.66").returncode, 0)
        self.assertEqual(daemon.in_set("blocked_v4"), set())
        self.assertEqual(daemon.command("flush").returncode, 0)
        self.lab.run("edge", ["nft", "delete table inet sipward"])
        self.assertEqual(daemon.command("flush").returncode, 3)

    def test_remove_closes_every_block_in_the_log(self):
        daemon = self.blocked_then_stopped("remove")
        self.assertEqual(daemon.logged("unblock", "198.51.100.66/32")["reason"], "stopped")

    def test_a_stop_in_the_middle_of_a_flood_is_as_clean(self):
        with Sipward(self.lab, self.program) as daemon:
            self.lab.attacks.flood("198.51.100.67", count=300, per_second=2000)
            code, seconds = daemon.stop()
        self.assertEqual(code, 0, daemon.output())
        self.assertLess(seconds, 5)


class Restart(LabTest):
    """What outlasts the process: blocks, trust, and what has been learnt."""

    def again(self, before, **changes):
        """The next daemon, on the state that the one before has left."""
        return Sipward(self.lab, self.program, state={"path": str(before.state)}, **changes)

    def test_blocks_come_back_with_the_time_that_is_left(self):
        for on_stop in ("remove", "keep"):
            with self.subTest(on_stop=on_stop):
                first = Sipward(self.lab, self.program, nftables={"on_stop": on_stop}, prefix={"offenders": 1})
                self.lab.attacks.flood("198.51.100.66", count=2, per_second=20, user_agent=SCANNER)
                self.assertTrue(first.holds("198.51.100.66"))
                until = {block["subject"]: block["until"] for block in first.ask("blocks")}
                self.assertEqual(set(until), {"198.51.100.66/32", "198.51.100.0/24"})
                first.stop()
                with self.again(first) as second:
                    self.assertTrue(second.holds("198.51.100.66", seconds=0))
                    self.assertTrue(second.holds("198.51.100.0", seconds=0, name="blocked_net_v4"))
                    blocks = {block["subject"]: block["until"] for block in second.ask("blocks")}
                    self.assertEqual(set(blocks), set(until))
                    for subject, end in until.items():  # the two clocks drift by less than this
                        self.assertEqual(blocks[subject][:19], end[:19])
                    self.assertTrue(any("alert - restored blocks=2" in line for line in second.log()), second.log())
                    before = self.lab.reached("198.51.100.66")
                    self.lab.attacks.flood("198.51.100.66", count=20, per_second=100)
                    self.assertEqual(self.lab.reached("198.51.100.66"), before)
                    self.assertEqual(second.ask("flush")["flushed"], 2)

    def test_who_was_unblocked_while_no_daemon_ran_stays_unblocked(self):
        for on_stop in ("remove", "keep"):
            for command in (("unblock", "198.51.100.66"), ("flush",)):
                with self.subTest(on_stop=on_stop, command=command):
                    first = Sipward(self.lab, self.program, nftables={"on_stop": on_stop})
                    self.lab.attacks.flood("198.51.100.66", count=2, per_second=20, user_agent=SCANNER)
                    self.assertTrue(first.holds("198.51.100.66"))
                    first.stop()
                    done = first.command(*command)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    with self.again(first) as second:
                        self.assertEqual(second.ask("blocks"), [])
                        self.assertEqual(second.in_set("blocked_v4"), set())

    def test_a_customer_is_known_to_the_next_daemon(self):
        def forged(daemon):
            """Somebody sends a scanner's datagram in the customer's name, from a port of his own."""
            self.lab.attacks.flood("203.0.113.50", count=1, per_second=1, user_agent=SCANNER)
            time.sleep(0.5)
            return {block["kind"] for block in daemon.ask("blocks")}

        first = Sipward(self.lab, self.program)
        with self.honest_phones(["203.0.113.50"], rate=4):
            pass
        first.stop()
        with self.again(first) as second:
            self.assertLessEqual(forged(second), {"endpoint"})
            self.assertFalse(second.holds("203.0.113.50", seconds=0))
        with Sipward(self.lab, self.program) as stranger:
            self.assertEqual(forged(stranger), {"host"})

    def test_customers_in_a_blocked_prefix_go_on_over_a_restart(self):
        customers = [f"203.0.113.{host}" for host in range(10, 14)]
        first = Sipward(self.lab, self.program, nftables={"on_stop": "keep"}, prefix={"offenders": 1})
        self.addCleanup(first.__exit__)
        with self.honest_phones(customers):
            pass
        with self.honest_phones(customers):  # known by now, and their /24 falls
            self.lab.attacks.flood("203.0.113.66", count=2, per_second=20, user_agent=SCANNER)
            self.assertTrue(first.holds("203.0.113.0", name="blocked_net_v4"))
        first.stop()
        with self.again(first, prefix={"offenders": 1}) as second:
            self.assertTrue(second.holds("203.0.113.0", seconds=0, name="blocked_net_v4"))
            with self.honest_phones(customers):
                pass
            self.lab.attacks.flood("203.0.113.77", count=5, per_second=50)
            self.assertEqual(self.lab.reached("203.0.113.77"), 0, "a stranger in it does not pass")
            second.ask("flush")

    def test_a_first_start_learns_and_a_later_one_does_not(self):
        """OPERATORS.md 16."""
        learning = {"trust": {"learning": "1h"}}
        with Sipward(self.lab, self.program, **learning) as first:
            self.assertIsInstance(first.ask("status")["learning"], str)
            self.lab.attacks.flood("198.51.100.71", count=400, per_second=400, user_agent="Yealink SIP-T46U")
            self.lab.attacks.flood("198.51.100.72", count=2, per_second=20, user_agent=SCANNER)
            self.assertTrue(first.holds("198.51.100.72"), "hard marks block")
            self.assertFalse(first.holds("198.51.100.71", seconds=1), "all else does not")
            self.assertIsNotNone(first.logged("would_block", "198.51.100.71/32"))
            self.assertEqual(first.command("arm").returncode, 0)
            self.assertIsNone(first.ask("status")["learning"])
            self.lab.attacks.flood("198.51.100.73", count=400, per_second=400, user_agent="Yealink SIP-T46U")
            self.assertTrue(first.holds("198.51.100.73"))
            first.stop()
            with self.again(first, **learning) as second:
                self.assertIsNone(second.ask("status")["learning"])

    def test_without_a_state_it_goes_on_and_says_so(self):
        state = self.lab.dir / "somebody.db"
        state.write_text("somebody else's file, and no database at all " * 100)
        with Sipward(self.lab, self.program, state={"path": str(state)}) as daemon:
            self.lab.attacks.flood("198.51.100.66", count=2, per_second=20, user_agent=SCANNER)
            self.assertTrue(daemon.holds("198.51.100.66"))
            self.assertIsNotNone(daemon.logged("block", "198.51.100.66/32"))
            self.assertIn("somebody.db", daemon.output())


class Start(LabTest):
    """What is wrong is named, with what to do; exit code 1."""

    def fails(self, text, *before):
        file = self.lab.dir / "start.yaml"
        file.write_text(text)
        done = self.lab.run("edge", [*before, "timeout", 20, self.program, "run", "--config", file], check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertFalse(self.lab.run("edge", ["nft", "list", "table", "inet", "sipward"], check=False).returncode == 0, "it left a table behind")
        return done.stderr

    def test_a_missing_interface(self):
        self.assertIn("nonesuch0", self.fails(settings(self.lab.dir, {"ports": {"outside": "nonesuch0"}})))

    def test_a_wrong_setting_with_its_place(self):
        self.assertRegex(self.fails("ports: {outside: eth1}\nblock: {ladder: [5 parsecs]}\n"), r"start\.yaml:2:\d+: .+")

    def test_broken_yaml_with_its_place(self):
        self.assertRegex(self.fails("ports: [\n"), r"start\.yaml:\d+:\d+: .+")

    def test_a_control_socket_that_is_a_file_of_somebody(self):
        treasure = self.lab.dir / "treasure"
        treasure.write_text("kept")
        self.assertIn("treasure", self.fails(settings(self.lab.dir, {"control": {"socket": str(treasure)}})))
        self.assertEqual(treasure.read_text(), "kept")

    def test_a_cpu_that_is_not_there(self):
        self.assertIn("no CPU 100", self.fails(settings(self.lab.dir, {"cores": [100]})))

    def test_a_missing_file(self):
        done = self.lab.run("edge", [self.program, "run", "--config", "/nonexistent/sipward.yaml"], check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent/sipward.yaml", done.stderr)

    def test_without_the_capabilities_it_names_them(self):
        for capability in ("net_admin", "net_raw"):
            said = self.fails(settings(self.lab.dir, {}), "setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}")
            self.assertIn(f"CAP_{capability.upper()}", said)

    def test_a_second_one_in_the_same_network_namespace_is_refused(self):
        with Sipward(self.lab, self.program) as daemon:
            second = self.lab.dir / "second.yaml"
            second.write_text(settings(self.lab.dir, {}))
            done = self.lab.run("edge", ["timeout", 20, self.program, "run", "--config", second], check=False)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("already", done.stderr)
            self.assertTrue(daemon.ready(), "the first one was disturbed")

    def test_a_second_one_in_another_network_namespace_is_not(self):
        with Sipward(self.lab, self.program):
            other = self.lab.dir / "other.yaml"
            other.write_text(settings(self.lab.dir, {"ports": {"outside": "o0"}}))
            done = self.lab.run("net", ["timeout", 3, self.program, "run", "--config", other], check=False)
            self.assertIn(done.returncode, (0, 124), done.stderr)  # ran until the time was up

    def test_what_else_stands_in_nftables_is_left_alone(self):
        self.lab.run("edge", ["nft", "add table inet admin; add chain inet admin input { type filter hook input priority 0; }"])
        self.addCleanup(self.lab.run, "edge", ["nft", "delete table inet admin"])
        with Sipward(self.lab, self.program):
            self.assertIn("admin", self.lab.run("edge", ["nft", "list tables"]).stdout)
        self.assertIn("admin", self.lab.run("edge", ["nft", "list tables"]).stdout)


class Appetite(LabTest):
    def test_an_idle_daemon_uses_under_3_percent_of_a_core(self):
        with Sipward(self.lab, self.program) as daemon:
            time.sleep(1)
            before, start = daemon.cpu_seconds(), time.monotonic()
            time.sleep(6)
            self.assertGreater(before, 0, "starting costs something, or this does not measure")
            share = (daemon.cpu_seconds() - before) / (time.monotonic() - start)
        measured(f"an idle daemon uses {share:.1%} of a core")
        self.assertLess(share, 0.03)

    def protects(self, hugepages):
        """Runs one attack; (what the daemon said, how many kB of hugepages it held)."""
        with Sipward(self.lab, self.program, memory={"hugepages": hugepages}) as daemon, self.honest_phones():
            self.lab.attacks.flood("198.51.100.68", count=100, per_second=200, user_agent=SCANNER)
            self.assertTrue(daemon.holds("198.51.100.68"))
            status = pathlib.Path(f"/proc/{daemon.child.pid}/status").read_text()
        return daemon.output(), int(re.search(r"HugetlbPages:\s+(\d+) kB", status)[1])

    def test_without_hugepages(self):
        self.assertEqual(self.protects("off")[1], 0)

    def test_with_hugepages(self):
        with hugepages(48):
            self.assertGreater(self.protects("on")[1], 0)

    def test_auto_takes_them_where_they_are(self):
        with hugepages(48):
            self.assertGreater(self.protects("auto")[1], 0)

    def test_auto_says_once_that_there_are_none(self):
        with hugepages(0):
            said, held = self.protects("auto")
        self.assertEqual(held, 0)
        self.assertEqual(sum("hugepages" in line for line in said.splitlines()), 1, said)

    def test_on_without_any_is_refused_with_what_to_do(self):
        with hugepages(0), self.assertRaisesRegex(RuntimeError, "(?s)exit code 1.*nr_hugepages"):
            Sipward(self.lab, self.program, memory={"hugepages": "on"})


@contextlib.contextmanager
def hugepages(count):
    """The machine has so many 2 MiB pages reserved, for a while."""
    with open(HUGEPAGES) as file:
        before = file.read()
    write(str(count))
    try:
        with open(HUGEPAGES) as file:
            if int(file.read()) < count:
                raise unittest.SkipTest(f"this machine has no {count} hugepages to spare")
        yield
    finally:
        write(before)


def write(count):
    with open(HUGEPAGES, "w") as file:
        file.write(count)


if __name__ == "__main__":
    main()
