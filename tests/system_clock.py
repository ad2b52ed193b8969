#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The wall clock is set while the daemon runs, an hour forth or back (OPERATORS.md 21): blocks keep the time that is really left, over a
restart too; the log's stamps follow the clock; who is trusted stays so, and history stays in one piece.

libfaketime, preloaded into the daemon, tells it another wall clock than everybody else's; CLOCK_MONOTONIC stays what it is."""
import calendar
import datetime
import glob
import ipaddress
import os
import sqlite3
import time

from lab import Phones, Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main, measured, skip
from lab.network import wait_until

TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
HOUR = 3600
TRUST = 14 * 24 * HOUR  # trust.remember
SCANNED, ORDERED, LATER, PHONE = "198.51.100.66", "198.51.100.77", "198.51.100.78", "203.0.113.20"


def seconds_of(text):
    """Unix time of a stamp as sipward writes it."""
    at = datetime.datetime.strptime(text, TIME)
    return calendar.timegm(at.timetuple()) + at.microsecond / 1e6


class Clock(LabTest):
    def setUp(self):
        library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
        if not library:
            skip("not installed: libfaketime (tests/packages names what is needed)")
        self.file = self.lab.dir / f"clock-{self.id().rsplit('.', 1)[1]}"
        self.environment = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": self.file, "FAKETIME_CACHE_DURATION": 1, "DONT_FAKE_MONOTONIC": 1,
                            "NO_FAKE_STAT": 1}
        self.set_clock(0)

    def set_clock(self, ahead):
        """The daemon's wall clock is so many seconds ahead of ours, as soon as it looks again."""
        self.ahead = ahead
        new = self.file.with_suffix(".new")
        new.write_text(f"{ahead:+d}\n")
        os.rename(new, self.file)

    def started(self, before=None, **changes):
        changes.setdefault("nftables", {"on_stop": "keep"})
        changes.setdefault("block", {"ladder": ["10m", "2h"]})
        if before:
            changes["state"] = {"path": str(before.state)}
        daemon = Sipward(self.lab, self.program, environment=self.environment, **changes)
        self.addCleanup(self.end, daemon)
        return daemon

    def end(self, daemon):
        daemon.__exit__()
        self.lab.run("edge", ["nft", "delete table inet sipward"], check=False)

    def left(self, daemon):
        """The seconds that are left of every block, by the daemon's own clock."""
        now = time.time() + self.ahead
        return {block["subject"].split("/")[0]: seconds_of(block["until"]) - now for block in daemon.ask("blocks")}

    def trusted(self, daemon):
        """The seconds for which the phone is still trusted."""
        return seconds_of(daemon.ask("explain", PHONE)["trust"]["until"]) - time.time() - self.ahead

    def in_kernel(self):
        """The seconds that the kernel gives each of them."""
        return {element["val"]: element["expires"] for element in self.lab.elements("edge", "sipward", "blocked_v4")}

    def on_file(self, daemon):
        with sqlite3.connect(f"file:{daemon.state}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT address, until FROM block WHERE limited = 0").fetchall()
        return {str(ipaddress.ip_address(address)): until / 1e9 - time.time() - self.ahead for address, until in rows}

    def stamped(self, daemon, words):
        """How far the stamp of the last line with these words is from the daemon's clock."""
        line = [line for line in daemon.log() if words in line][-1]
        return seconds_of(line.split()[0]) - time.time() - self.ahead

    def jump(self, ahead):
        """Blocks and trust from before it; the clock is set; all is looked at, before and after a restart, and a kill."""
        daemon = self.started()
        self.assertEqual(Phones(self.lab, [PHONE], count=5).wait(), (5, 0))
        trusted = self.trusted(daemon)
        self.assertAlmostEqual(trusted, TRUST, delta=10)
        self.lab.attacks.flood(SCANNED, count=1, per_second=100, user_agent=SCANNER)
        self.assertTrue(daemon.holds(SCANNED))
        daemon.ask("block", ORDERED, "--for", "3h")
        time.sleep(1)
        before, began, kernel = self.left(daemon), time.monotonic(), self.in_kernel()

        def as_before(found, what):
            passed = time.monotonic() - began
            for address, seconds in before.items():
                self.assertAlmostEqual(found[address], seconds - passed, delta=3, msg=f"{what}: {address}")

        self.set_clock(ahead)
        self.assertTrue(wait_until(lambda: any("alert - clock_set" in line for line in daemon.log()), 5), daemon.output())
        self.assertIn(f"by={'+' if ahead > 0 else '-'}1h", [line for line in daemon.log() if "clock_set" in line][-1])
        as_before(self.left(daemon), "after the clock was set")
        for address, seconds in kernel.items():
            self.assertAlmostEqual(self.in_kernel()[address], seconds - (time.monotonic() - began), delta=3, msg="nothing had to be touched")
        self.assertTrue(wait_until(lambda: abs(self.on_file(daemon)[SCANNED] - self.left(daemon)[SCANNED]) < 3, 5), "on file as it was dated before")
        self.assertAlmostEqual(self.trusted(daemon), trusted, delta=20)
        # The log follows the clock, and what is new is dated by it.
        self.lab.attacks.flood(LATER, count=1, per_second=100, user_agent=SCANNER)
        self.assertTrue(daemon.holds(LATER))
        self.assertTrue(wait_until(lambda: daemon.logged("block", f"{LATER}/32"), 2))
        self.assertAlmostEqual(self.stamped(daemon, LATER), 0, delta=3)
        self.assertAlmostEqual(self.left(daemon)[LATER], 600, delta=5)

        daemon.stop()
        second = self.started(daemon)
        as_before(self.left(second), "after a restart")
        self.assertAlmostEqual(self.trusted(second), trusted, delta=60)
        os.kill(second.child.pid, 9)
        second.child.wait(10)
        third = self.started(daemon)
        as_before(self.left(third), "after a kill")
        third.ask("unblock", SCANNED)
        entries = [entry for entry in third.ask("history") if entry.get("subject") in (f"{SCANNED}/32", f"{LATER}/32")]
        self.assertEqual(len(entries), 2, entries)
        for entry in entries:
            self.assertEqual(entry["ending"], "unblocked" if entry["subject"] == f"{SCANNED}/32" else None, entry)
            self.assertLess(entry["since"], entry["ended"] or "9", "it ended before it began")
        self.assertTrue(third.ask("status")["nft"]["in_sync"])
        measured(f"the clock {'+' if ahead > 0 else '-'}1 h: every block keeps its time, while it runs, over a restart and over a kill")

    def test_an_hour_forth(self):
        self.jump(HOUR)

    def test_an_hour_back(self):
        self.jump(-HOUR)

    def test_a_block_ends_when_its_time_is_up_whatever_the_clock_says(self):
        daemon = self.started(block={"ladder": ["10s", "1h"]})
        for ahead, source in ((HOUR, "198.51.100.80"), (-HOUR, "198.51.100.81")):
            self.lab.attacks.flood(source, count=1, per_second=100, user_agent=SCANNER)
            self.assertTrue(daemon.holds(source))
            start = time.monotonic()
            self.set_clock(ahead)
            self.assertTrue(wait_until(lambda: source not in daemon.in_set("blocked_v4"), 15))
            self.assertAlmostEqual(time.monotonic() - start, 10, delta=2)
            self.assertTrue(wait_until(lambda: daemon.logged("unblock", f"{source}/32"), 2))
            self.assertAlmostEqual(self.stamped(daemon, f"unblock {source}"), 0, delta=3)

    def test_off_for_a_time_lasts_as_long_as_was_said(self):
        daemon = self.started()
        daemon.command("off", "--for", "1h")
        self.set_clock(2 * HOUR)
        self.assertTrue(wait_until(lambda: any("alert - clock_set" in line for line in daemon.log()), 5))
        self.assertFalse(daemon.table())
        daemon.stop()
        second = Sipward(self.lab, self.program, needs_table=False, environment=self.environment, state={"path": str(daemon.state)})
        self.addCleanup(self.end, second)
        time.sleep(0.5)
        self.assertFalse(second.table(), "it ended with the clock's hours, and not with its own")
        second.command("on")


if __name__ == "__main__":
    main()
