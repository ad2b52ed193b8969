#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon remembers, and what the operator may do with it: history, forget, export and import."""
import argparse
import json
import socket

from lab import Phones, Sipward, sender
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


class Users(LabTest):
    def test_users_are_known_over_a_restart_and_forgotten_with_or_without_a_daemon(self):
        with Sipward(self.lab, self.program) as first:
            phones = Phones(self.lab, ("203.0.113.61", "203.0.113.62", "203.0.113.63"), 5, first_user=1150)
            self.assertTrue(wait_until(lambda: phones.so_far()[0] >= 6, 15))
            phones.stop()
            first.stop()
            with Sipward(self.lab, self.program, state={"path": str(first.state)}) as second:
                self.assertIs(second.ask("forget", "1150")["was_known"], True)
                self.assertIs(second.ask("forget", "nobody")["was_known"], False)
                second.stop()
                self.assertEqual(second.command("forget", "1151").returncode, 0)
                with Sipward(self.lab, self.program, state={"path": str(first.state)}) as third:
                    known = {user: third.ask("forget", user)["was_known"] for user in ("1150", "1151", "1152")}
                    self.assertEqual(known, {"1150": False, "1151": False, "1152": True})


class Forget(LabTest):
    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward()

    def trusted(self):
        """The sources that are trusted, as a standby host would be told."""
        file = self.daemon.dir / "export"
        self.daemon.ask("state", "export", file)
        return {line["trust"] for line in map(json.loads, file.read_text().splitlines()) if "trust" in line}

    def test_an_address_is_forgotten_with_its_trust_and_its_history(self):
        with self.honest_phones(["203.0.113.50", "203.0.113.51"], rate=4):
            pass
        self.daemon.ask("block", "203.0.113.50")
        self.daemon.ask("unblock", "203.0.113.50")
        self.assertLessEqual({"203.0.113.50/32", "203.0.113.51/32"}, self.trusted())
        self.assertGreaterEqual(self.daemon.ask("forget", "203.0.113.50")["trusted"], 1)
        self.assertNotIn("203.0.113.50/32", self.trusted())
        self.assertIn("203.0.113.51/32", self.trusted())
        self.assertNotIn("203.0.113.50/32", [entry["subject"] for entry in self.daemon.ask("history")])

    def test_a_user_is_forgotten_with_the_alerts_about_him(self):
        self.assertIn("user", self.daemon.ask("forget", "1001"))


class Names(LabTest):
    """OPERATORS.md 20: users' names in the log and in history, as log.users has it."""
    USER = "1150"

    def alerts_about_a_user(self, users):
        """A crowd tries one user's password; the alert in the log, and the same in history."""
        with Sipward(self.lab, self.program, log={"users": users}) as daemon:
            for host in range(30):
                with self.lab.here("net"):
                    sender.guess(argparse.Namespace(first=f"198.51.100.{host + 150}", port=5070, user=self.USER, rate=30, seconds=0.1, number=host * 100,
                                                    face=sender.FACE))
            self.assertTrue(wait_until(lambda: any("alert - user_under_attack" in line for line in daemon.log()), 5), daemon.log())
            told = [line for line in daemon.log() if "user_under_attack" in line]
            remembered = [json.dumps(entry) for entry in daemon.ask("history", "--alerts") if "user_under_attack" in json.dumps(entry)]
            self.assertTrue(remembered)
            return told + remembered

    def test_in_full_as_a_hash_or_not_at_all(self):
        for text in self.alerts_about_a_user("full"):
            self.assertIn(self.USER, text)
        hashed = self.alerts_about_a_user("hash")
        for text in hashed:
            self.assertRegex(text, "user=.{0,2}hash:[0-9a-f]{16}")
        for text in hashed + self.alerts_about_a_user("off"):
            self.assertNotRegex(text, rf"user=\W*{self.USER}")


class ForgetInTheFile(LabTest):
    def test_without_a_daemon_the_file_forgets(self):
        with Stopped(self) as stopped:
            done = stopped.command("forget", "198.51.100.80")
            self.assertEqual(done.returncode, 0, done.stderr)
            subjects = {entry["subject"] for entry in stopped.ask("history")}
            self.assertNotIn("198.51.100.80/32", subjects)
            self.assertIn("198.51.100.81/32", subjects)


class Standby(LabTest):
    """Another host takes over what this one knows."""

    def test_what_was_exported_is_in_force_at_once_where_it_is_imported(self):
        file = self.lab.dir / "standby.export"
        with Sipward(self.lab, self.program) as first:
            with self.honest_phones(["203.0.113.50"], rate=4):
                pass
            first.ask("block", "198.51.100.70", "--for", "1h")
            first.ask("block", "203.0.113.128/25", "--for", "1h")
            done = first.command("state", "export", file)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(file.stat().st_mode & 0o077, 0)
        with Sipward(self.lab, self.program) as second:
            taken = second.ask("state", "import", file)
            self.assertEqual((taken["daemon"], taken["blocks"]), (True, 2))
            self.assertGreaterEqual(taken["trust"], 1)
            self.assertTrue(second.holds("198.51.100.70", seconds=0))
            self.assertTrue(second.holds("203.0.113.128", seconds=0, name="blocked_net_v4_25"))
            self.lab.attacks.flood("203.0.113.50", count=1, per_second=1, user_agent=SCANNER)  # forged: he is a customer here, too
            self.assertFalse(second.holds("203.0.113.50", seconds=1))
            self.assertEqual(second.ask("state", "import", file)["blocks"], 0, "nothing new the second time")

    def test_what_is_no_export_is_refused_with_its_line(self):
        file = self.lab.dir / "broken.export"
        with Sipward(self.lab, self.program) as daemon:
            daemon.ask("state", "export", file)
            file.write_text(file.read_text().splitlines()[0] + "\n")
            done = daemon.command("state", "import", file)
            self.assertEqual(done.returncode, 1)
            self.assertIn("broken.export:2", done.stderr)
            self.assertEqual(daemon.command("state", "import", "/nonexistent").returncode, 1)

    def test_into_the_file_where_no_daemon_runs(self):
        file = self.lab.dir / "cold.export"
        with Stopped(self) as first:
            done = self.lab.run("edge", [self.program, "state", "export", file, "--socket", "/nonexistent", "--state", first.state])
            self.assertIn("2 blocks", done.stdout)
            done = self.lab.run("edge", [self.program, "state", "import", file, "--socket", "/nonexistent", "--state", self.lab.dir / "cold.db", "--json"])
            self.assertEqual(json.loads(done.stdout)["blocks"], 2)
        with Sipward(self.lab, self.program, state={"path": str(self.lab.dir / "cold.db")}) as second:
            self.assertTrue(second.holds("198.51.100.80", seconds=0))


class Stopped:
    """A daemon that ran, blocked 198.51.100.80 and .81, and ended: its file remembers."""

    def __init__(self, test):
        self.daemon = Sipward(test.lab, test.program)

    def __enter__(self):
        for host in (80, 81):
            self.daemon.ask("block", f"198.51.100.{host}", "--for", "1h")
        self.daemon.stop()
        return self.daemon

    def __exit__(self, *_):
        self.daemon.__exit__()


if __name__ == "__main__":
    main()
