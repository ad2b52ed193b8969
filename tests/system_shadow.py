#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A second settings file judges the live traffic: what it would do stands in the log, and nobody is blocked by it."""
import time

from lab import SERVER_V4, SERVER_V6, Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main
from lab.network import wait_until
from lab.sipward import settings

STRICT = {"detect": {"register_flood": {"rate": "1/s", "burst": 5}}, "prefix": {"offenders": 1}}
LAX = {"detect": {"scanner": {"action": "off"}}}


class ShadowTest(LabTest):
    tried = STRICT

    def setUp(self):
        self.file = self.lab.dir / f"{self.id().rsplit('.', 1)[-1]}.yaml"
        self.write(self.tried)
        self.daemon = Sipward(self.lab, self.program, shadow=str(self.file))
        self.addCleanup(self.daemon.__exit__)

    def write(self, tried):
        self.file.write_text(settings(self.lab.dir, tried))

    def flood(self, source, count=30):
        self.lab.attacks.flood(source, count=count, per_second=200)

    def logged(self, event, subject, seconds=5):
        wait_until(lambda: self.daemon.logged(event, subject), seconds)
        line = self.daemon.logged(event, subject)
        self.assertIsNotNone(line, self.daemon.log())
        return line


class Stricter(ShadowTest):
    def test_it_says_what_it_would_do_and_nothing_is_blocked_by_it(self):
        before = self.lab.sent("198.51.100.71"), self.lab.reached("198.51.100.71")
        self.flood("198.51.100.71")
        line = self.logged("would_block", "198.51.100.71/32")
        self.assertEqual((line["reason"], line["now"], line["shadow"]), ("register_flood", "passes", "yes"))
        self.assertEqual(self.logged("would_block", "198.51.100.0/24")["reason"], "prefix")
        self.flood("198.51.100.71")
        sent, reached = (now - then for now, then in zip((self.lab.sent("198.51.100.71"), self.lab.reached("198.51.100.71")), before))
        self.assertEqual((sent, reached), (60, 60))
        for name in ("blocked_v4", "blocked_net_v4", "limited_v4", "blocked_endpoint_v4"):
            self.assertEqual(self.daemon.in_set(name), set(), name)
        self.assertEqual(self.daemon.ask("blocks"), [])
        self.assertEqual(self.daemon.ask("history"), [])
        self.assertEqual(self.daemon.ask("status")["dropped"], 0)

    def test_the_present_settings_block_as_ever_and_both_are_no_difference(self):
        with self.lab.attacks.socket("198.18.4.66") as sender:
            for _ in range(3):
                sender.sendto(self.lab.attacks.request("198.18.4.66", SCANNER), (SERVER_V4, 5060))
                time.sleep(0.02)
        self.assertTrue(self.daemon.holds("198.18.4.66"))
        self.assertEqual(self.logged("would_block", "198.18.4.66/32")["now"], "blocked")
        shadow = self.daemon.ask("shadow")
        self.assertNotIn("198.18.4.66/32", [block["subject"] for block in shadow["blocks"]["more"] + shadow["blocks"]["less"]])

    def test_status_and_the_command_tell_the_differences(self):
        with self.honest_phones():
            self.flood("198.18.5.71")
            self.logged("would_block", "198.18.5.71/32")
        status = self.daemon.ask("status")["shadow"]
        self.assertEqual(status["file"], str(self.file))
        self.assertEqual((status["would_block"], status["more"], status["more_known"], status["less"]), (2, 2, 0, 0))
        self.assertGreater(status["packets"]["judged"], 30)
        self.assertGreater(status["packets"]["more"], 0)
        self.assertEqual(status["lost_offences"], 0)
        self.assertIn(f"by {self.file}: 2 would be blocked, 2 of them more than now", self.daemon.command("status").stdout)
        more = self.daemon.ask("shadow")["blocks"]["more"]
        self.assertEqual({block["subject"]: block["known"] for block in more}, {"198.18.5.71/32": False, "198.18.5.0/24": False})
        self.assertEqual({block["action"] for block in more}, {"would_block"})
        told = self.daemon.command("shadow").stdout
        self.assertIn("2 more blocked, 0 less", told)
        self.assertIn("198.18.5.71/32", told)

    def test_a_customer_who_would_be_cut_off_is_marked_as_known(self):
        with self.honest_phones(("203.0.113.77",), rate=2):
            pass
        self.flood("203.0.113.77", 60)
        # What is sent in a known customer's name is limited, and his neighbours are let be.
        line = self.logged("would_limit", "203.0.113.77/32")
        self.assertEqual((line["trusted"], line["now"]), ("yes", "passes"))

    def test_events_of_a_json_log_say_the_same(self):
        self.flood("198.18.6.71")
        self.logged("would_block", "198.18.6.71/32")
        event = next(event for event in self.daemon.ask("events") if event.get("subject") == "198.18.6.71/32")
        self.assertEqual((event["event"], event["action"], event["now"], event["shadow"]), ("would_block", "would_block", "passes", True))

    def test_nothing_of_it_outlasts_the_daemon(self):
        self.flood("198.18.7.71")
        self.logged("would_block", "198.18.7.71/32")
        self.daemon.stop()
        with Sipward(self.lab, self.program, state={"path": str(self.daemon.state)}) as again:
            self.assertEqual(again.ask("blocks"), [])
            self.assertEqual(again.ask("history"), [])
            self.assertIsNone(again.ask("status")["shadow"])
            refused = again.command("shadow")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("shadow: /PATH", refused.stderr)


class Laxer(ShadowTest):
    tried = LAX

    def test_whom_only_the_present_settings_block_is_told_as_well(self):
        with self.lab.attacks.socket("198.18.8.66") as sender:
            for _ in range(3):
                sender.sendto(self.lab.attacks.request("198.18.8.66", SCANNER), (SERVER_V4, 5060))
                time.sleep(0.02)
        self.assertTrue(self.daemon.holds("198.18.8.66"))
        line = self.logged("would_pass", "198.18.8.66/32", 15)
        self.assertEqual((line["reason"], line["now"], line["shadow"]), ("scanner", "blocked", "yes"))
        shadow = self.daemon.ask("shadow")
        self.assertEqual([block["subject"] for block in shadow["blocks"]["less"]], ["198.18.8.66/32"])
        self.assertTrue(self.daemon.holds("198.18.8.66"))


class Files(ShadowTest):
    def reload(self, **changes):
        self.daemon.settings.write_text(settings(self.daemon.dir, changes))
        return self.daemon.command("reload")

    def test_a_reload_takes_a_changed_file_and_ends_without_one(self):
        self.write({})
        self.assertEqual(self.reload(shadow=str(self.file)).returncode, 0)
        self.flood("198.18.9.71")
        time.sleep(1)
        self.assertEqual(self.daemon.ask("shadow")["blocks"]["more"], [])
        self.write(STRICT)
        self.assertEqual(self.reload(shadow=str(self.file)).returncode, 0)
        self.flood("198.18.10.71")
        self.logged("would_block", "198.18.10.71/32")
        for _ in range(20):  # and again and again, while packets flow
            self.assertEqual(self.reload(shadow=str(self.file), block={"max_per_second": 100 + _}).returncode, 0)
            self.lab.attacks.flood("198.18.11.71", count=20, per_second=2000)
        self.assertEqual(self.reload().returncode, 0)
        self.assertIsNone(self.daemon.ask("status")["shadow"])
        lines = len(self.daemon.log())
        self.flood("198.18.12.71")
        time.sleep(1)
        self.assertFalse([line for line in self.daemon.log()[lines:] if "shadow=yes" in line])
        self.assertTrue(any("shadow_ended" in line for line in self.daemon.log()))

    def test_a_bad_file_is_refused_with_its_place_and_the_old_one_judges_on(self):
        self.file.write_text(self.file.read_text() + "nonsense: 1\n")
        line = len(self.file.read_text().splitlines())
        done = self.reload(shadow=str(self.file))
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{self.file}:{line}:1: ", done.stderr)
        self.flood("198.18.13.71")
        self.logged("would_block", "198.18.13.71/32")

    def test_check_and_start_name_file_line_and_key(self):
        for text, place in (("nonsense: 1\n", ":1: there is no key"), ("detect: {scanner: {action: maybe}}\n", "detect.scanner.action: ")):
            self.file.write_text("ports: {outside: eth1}\n" + text)
            for command in ("check", "run"):
                done = self.lab.run("edge", [self.program, command, "--config", self.daemon.settings], check=False)
                self.assertEqual(done.returncode, 1, command)
                self.assertIn(f"{self.file}:2:", done.stderr)
                self.assertIn(place, done.stderr)
        self.write({"sip": {"ports": [5070], "servers": [SERVER_V4, SERVER_V6]}})
        done = self.lab.run("edge", [self.program, "check", "--config", self.daemon.settings], check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("counts for nothing in a shadow: sip.ports", done.stderr)
        self.assertIn(f"shadow: {self.file}", done.stdout)


if __name__ == "__main__":
    main()
