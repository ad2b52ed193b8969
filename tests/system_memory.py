#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon remembers, and what the operator may do with it: history."""
import json
import socket

from lab import Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main
from lab.network import wait_until


class History(LabTest):
    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward()

    def entry(self, subject):
        """The last entry of a subject, as programs get it; None if there is none."""
        found = [entry for entry in self.daemon.ask("history") if entry.get("subject") == subject]
        return found[-1] if found else None

    def test_a_block_is_remembered_after_it_was_lifted(self):
        self.lab.attacks.flood("198.51.100.66", count=20, per_second=100, user_agent=SCANNER)
        self.assertTrue(self.daemon.holds("198.51.100.66"))
        self.assertIsNone(self.entry("198.51.100.66/32")["ended"], "it stands")
        self.daemon.ask("unblock", "198.51.100.66")
        entry = self.entry("198.51.100.66/32")
        self.assertEqual((entry["reason"], entry["ending"], entry["action"]), ("scanner", "unblocked", "block"))
        self.assertEqual(entry["evidence"]["user_agent"], SCANNER)
        self.assertGreater(entry["packets_dropped"], 0)
        self.assertLess(entry["since"], entry["ended"])

    def test_people_read_a_table_and_alerts_if_they_ask(self):
        self.daemon.command("block", "198.51.100.70", "--reason", "called at night")
        text = self.daemon.command("history").stdout
        self.assertIn("198.51.100.70/32", text)
        self.assertIn("called at night", text)
        self.assertNotIn("\x1b", text)
        self.assertNotIn("alert", {entry.get("event") for entry in self.daemon.ask("history")})

    def test_since_leaves_out_what_is_older(self):
        self.daemon.ask("block", "198.51.100.71")
        self.assertTrue(wait_until(lambda: self.daemon.ask("history", "--since", "1s") == [], 4))
        self.assertIsNotNone(self.entry("198.51.100.71/32"))
        self.assertEqual(self.daemon.command("history", "--since", "5 parsecs").returncode, 2)

    def test_more_of_it_than_one_answer_holds(self):
        with socket.socket(socket.AF_UNIX) as client, client.makefile("rw") as lines:
            client.connect(str(self.daemon.dir / "control.sock"))
            for number in range(300):
                lines.write(json.dumps({"command": "block", "subject": f"198.18.{number // 200}.{number % 200 + 1}"}) + "\n")
                lines.flush()
                self.assertTrue(json.loads(lines.readline())["ok"])
        subjects = {entry["subject"] for entry in self.daemon.ask("history")}
        self.assertGreaterEqual(len(subjects), 300)

    def test_without_a_daemon_it_is_read_from_the_file(self):
        with_daemon = self.daemon.ask("history")
        alone = self.lab.run("edge", [self.program, "history", "--json", "--socket", "/nonexistent", "--state", self.daemon.state])
        self.assertLessEqual({entry["subject"] for entry in with_daemon}, {entry["subject"] for entry in json.loads(alone.stdout)})
        done = self.lab.run("edge", [self.program, "history", "--socket", "/nonexistent", "--state", "/nonexistent.db"], check=False)
        self.assertEqual(done.returncode, 3)


class Alerts(LabTest):
    def test_they_are_remembered_over_a_restart(self):
        with Sipward(self.lab, self.program, trust={"learning": "1h"}) as first:
            first.stop()
            with Sipward(self.lab, self.program, state={"path": str(first.state)}) as second:
                told = [entry["text"] for entry in second.ask("history", "--alerts") if entry.get("event") == "alert"]
                self.assertTrue(any(text.startswith("learning until=") for text in told), told)


if __name__ == "__main__":
    main()
