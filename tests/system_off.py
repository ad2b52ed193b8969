#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Three in the morning, and something is wrong: `sipward off`, with a daemon, without one, and with one that hangs; and `on`."""
import os
import signal

from lab import Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main
from lab.network import wait_until

DONE, REFUSED, NO_DAEMON = 0, 1, 3
ATTACKER, ANOTHER = "198.51.100.66", "198.51.100.67"


class Off(LabTest):
    def started(self, before=None, **changes):
        changes.setdefault("nftables", {"on_stop": "keep"})
        if before:
            changes["state"] = {"path": str(before.state)}
        daemon = Sipward(self.lab, self.program, needs_table=False, **changes)
        self.addCleanup(self.end, daemon)
        return daemon

    def end(self, daemon):
        daemon.__exit__()
        self.lab.run("edge", ["nft", "delete table inet sipward"], check=False)

    def does(self, daemon, *words, code=DONE):
        done = daemon.command(*words)
        self.assertEqual(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def attack(self, source, count=20):
        """How many of so many scanner's datagrams reach the server."""
        before = self.lab.reached(source)
        self.lab.attacks.flood(source, count=count, per_second=200, user_agent=SCANNER)
        return self.lab.reached(source) - before

    def alerts(self, daemon, event):
        return [line for line in daemon.log() if f" alert - {event} " in line + " "]

    def blocked(self, daemon):
        self.attack(ATTACKER)
        self.assertTrue(daemon.holds(ATTACKER))
        self.assertEqual(self.attack(ATTACKER), 0)

    def test_off_removes_every_rule_and_on_puts_them_back(self):
        daemon = self.started()
        self.blocked(daemon)
        dropped = daemon.ask("blocks")[0]["packets_dropped"]
        self.assertGreater(dropped, 0)
        self.does(daemon, "off", "--reason", "calls fail since\nmidnight")
        self.assertFalse(daemon.table())
        self.assertEqual(self.attack(ATTACKER), 20)
        self.assertEqual(self.attack(ANOTHER), 20)
        self.assertTrue(wait_until(lambda: daemon.logged("would_block", f"{ANOTHER}/32"), 3), daemon.log())
        self.assertEqual({block["action"] for block in daemon.ask("blocks")}, {"would_block"})
        status = daemon.ask("status")
        self.assertEqual((status["off"]["until"], status["off"]["reason"]), (None, "calls fail since\nmidnight"))
        self.assertTrue(status["nft"]["in_sync"])
        self.assertIn("OFF", self.does(daemon, "status"))
        self.assertIn("SWITCHED OFF", self.does(daemon, "top", "--once"))
        self.assertNotIn("OUT OF SYNC", self.does(daemon, "top", "--once"))
        self.assertIn("switched off", self.does(daemon, "explain", ATTACKER))
        [line] = self.alerts(daemon, "off")
        self.assertIn("midnight", line)

        self.assertIn("2 blocks", self.does(daemon, "on"))  # one of them is only noted
        self.assertTrue(daemon.holds(ATTACKER, seconds=0))
        self.assertFalse(daemon.holds(ANOTHER, seconds=0), "he would have been blocked, and was not")
        self.assertEqual(self.attack(ATTACKER), 0)
        kept = {block["subject"]: block for block in daemon.ask("blocks")}[f"{ATTACKER}/32"]
        self.assertGreaterEqual(kept["packets_dropped"], dropped + 20, "what was counted before is lost")
        self.attack(ANOTHER)
        self.assertTrue(daemon.holds(ANOTHER), "he goes on, and is blocked now")
        self.assertIsNone(daemon.ask("status")["off"])
        self.assertEqual(len(self.alerts(daemon, "on")), 1)
        self.assertIn("already", self.does(daemon, "on"))

    def test_off_lasts_over_restarts_until_on(self):
        first = self.started()
        self.blocked(first)
        self.does(first, "off")
        first.stop()
        self.assertFalse(first.table())
        second = self.started(first)
        self.assertFalse(second.table())
        self.assertIsNotNone(second.ask("status")["off"])
        self.assertEqual(self.attack(ATTACKER), 20)
        os.kill(self.pid(second), signal.SIGKILL)
        second.child.wait(5)
        third = self.started(first)
        self.assertFalse(third.table())
        self.does(third, "on")
        self.assertTrue(third.holds(ATTACKER, seconds=0))
        third.stop()
        fourth = self.started(first)
        self.assertTrue(fourth.holds(ATTACKER, seconds=0))

    @staticmethod
    def pid(daemon):
        return daemon.child.pid

    def test_off_for_a_while_ends_by_itself(self):
        daemon = self.started()
        self.blocked(daemon)
        self.does(daemon, "off", "--for", "2s")
        self.assertFalse(daemon.table())
        self.assertIsInstance(daemon.ask("status")["off"]["until"], str)
        self.assertTrue(daemon.holds(ATTACKER, seconds=5))
        self.assertIsNone(daemon.ask("status")["off"])
        self.assertIn("time is over", self.alerts(daemon, "on")[0])

    def test_off_for_a_while_ends_while_nobody_runs(self):
        first = self.started()
        self.blocked(first)
        self.does(first, "off", "--for", "1s")
        first.stop()
        second = self.started(first)
        self.assertTrue(second.holds(ATTACKER, seconds=3))

    def test_off_and_on_without_a_daemon(self):
        first = self.started()
        self.blocked(first)
        first.stop()
        self.assertTrue(first.holds(ATTACKER, seconds=0))
        self.assertIn("no daemon", self.does(first, "off", "--reason", "night"))
        self.assertFalse(first.table())
        self.assertEqual(self.attack(ATTACKER), 20)
        second = self.started(first)
        self.assertFalse(second.table())
        self.assertEqual(second.ask("status")["off"]["reason"], "night")
        second.stop()
        self.assertIn("no daemon", self.does(second, "on"))
        third = self.started(first)
        self.assertTrue(third.holds(ATTACKER, seconds=0))
        third.stop()
        self.does(third, "on", code=NO_DAEMON)

    def test_off_while_the_daemon_hangs_removes_the_rules_and_says_what_to_do(self):
        daemon = self.started()
        self.blocked(daemon)
        os.kill(self.pid(daemon), signal.SIGSTOP)
        try:
            self.assertIn("kill it", self.does(daemon, "off", code=REFUSED))
            self.assertFalse(daemon.table())
        finally:
            os.kill(self.pid(daemon), signal.SIGCONT)
        self.assertTrue(wait_until(lambda: daemon.ask("status")["off"], 5), "it finds what it was asked as it comes to itself")
        self.assertFalse(daemon.table())

    def test_nonsense_is_refused(self):
        daemon = self.started()
        self.assertNotEqual(daemon.command("off", "--for", "5 parsecs").returncode, DONE)
        self.assertIsNone(daemon.ask("status")["off"])


if __name__ == "__main__":
    main()
