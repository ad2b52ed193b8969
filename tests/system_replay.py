#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that need no daemon and no privilege: replay, check, version. What replay says of a recording, the daemon said live."""
import json
import os
import pathlib

from lab import SERVER_V4
from lab.attackers import SCANNER
from lab.case import LabTest, main
from lab.network import run
from lab.recorder import Recorder
from lab.sipward import settings

SHIPPED = pathlib.Path(__file__).resolve().parent.parent / "config" / "sipward.yaml"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


class Replay(LabTest):
    @classmethod
    def setUpClass(cls):
        """A scanner, a flood and honest phones, judged live and recorded on the way."""
        cls.folder = cls.lab.dir / "replay"
        cls.folder.mkdir()
        cls.lab.dir.chmod(0o755)
        cls.capture = cls.folder / "live.pcap"
        daemon = cls.sipward()
        recorder = Recorder(cls.lab, cls.capture)
        with cls().honest_phones():
            cls.lab.attacks.flood("198.51.100.66", count=20, per_second=100, user_agent=SCANNER)
            cls.lab.attacks.flood("198.18.1.66", count=400, per_second=400)
        cls.frames = recorder.stop()
        cls.live = {block["subject"]: block for block in daemon.ask("blocks")}

    def replay(self, *words, code=0):
        done = run([*NOBODY, self.program, "replay", *words], check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def judged(self, *words):
        return json.loads(self.replay("--json", "--server", SERVER_V4, *words, self.capture).stdout)

    def test_it_convicts_whom_the_daemon_convicted_for_the_same_reason_after_as_many_packets(self):
        told = {block["subject"]: block for block in self.judged()["blocks"]}
        self.assertEqual(set(told), {"198.51.100.66/32", "198.18.1.66/32"})
        self.assertEqual(set(told), set(self.live))
        for subject, block in told.items():
            self.assertEqual(block["reason"], self.live[subject]["reason"])
            self.assertAlmostEqual(block["packets_before"], self.live[subject]["packets_before"], delta=3)  # two clocks
        self.assertEqual(told["198.51.100.66/32"]["packets_before"], 1)

    def test_it_counts_every_packet_and_tells_the_talkers(self):
        told = self.judged()
        self.assertLessEqual({"captures", "packets", "sip", "sources", "verdicts", "blocks", "alerts"}, set(told))
        self.assertEqual(told["packets"], self.frames)
        self.assertEqual(sum(told["verdicts"].values()), self.frames)
        sources = {source["address"]: source for source in told["sources"]}
        flooder = sources["198.18.1.66"]
        self.assertEqual((flooder["packets"], flooder["requests"], flooder["flows"], flooder["methods"]), (400, 400, 1, {"REGISTER": 400}))
        self.assertEqual(flooder["octets"] > 400 * 300, True)
        self.assertGreater(flooder["dropped"], 300)
        self.assertEqual(sources["198.51.100.66"]["user_agents"], [SCANNER])
        self.assertEqual(sources["203.0.113.10"]["dropped"], 0)

    def test_the_servers_are_found_without_being_named(self):
        told = json.loads(self.replay("--json", self.capture).stdout)
        self.assertEqual({block["subject"] for block in told["blocks"]}, {"198.51.100.66/32", "198.18.1.66/32"})

    def test_settings_are_heeded(self):
        allowing = self.folder / "allowing.yaml"
        allowing.write_text(settings(self.folder, {"allow": ["198.51.100.66"]}))
        self.assertEqual([block["subject"] for block in self.judged("--config", allowing)["blocks"]], ["198.18.1.66/32"])

    def test_several_captures_are_one_story(self):
        told = self.judged(self.capture)  # the same one twice
        self.assertEqual(told["packets"], 2 * self.frames)

    def test_for_people(self):
        said = self.replay("--server", SERVER_V4, self.capture).stdout
        self.assertIn("198.18.1.66", said)
        self.assertIn("register_flood", said)
        self.assertNotIn("\x1b", said)

    def test_talkers_in_the_order_asked_for(self):
        for key in ("requests", "octets", "packets"):
            told = self.judged("--sort", key)["sources"]
            self.assertEqual([source[key] for source in told], sorted((source[key] for source in told), reverse=True), key)
        self.assertEqual(run([self.program, "replay", "--sort", "beauty", self.capture], check=False).returncode, 2)

    def test_a_foreign_a_truncated_and_a_missing_file_are_refused_by_name(self):
        foreign, short = self.folder / "foreign.pcap", self.folder / "short.pcap"
        foreign.write_bytes(os.urandom(4096))
        short.write_bytes(self.capture.read_bytes()[:-10])
        for file in (foreign, short, self.folder / "missing.pcap"):
            self.assertIn(file.name, self.replay("--json", file, code=1).stderr)


class Check(LabTest):
    def check(self, text, code):
        file = self.lab.dir / "check.yaml"
        file.write_text(text)
        done = run([self.program, "check", "--config", file], check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stderr if code else done.stdout

    def test_the_shipped_settings_and_the_smallest_file_that_works_are_the_same(self):
        shipped = self.check(SHIPPED.read_text(), 0)
        self.assertEqual(self.check("ports: {outside: eth1}\n", 0).replace("eth1", "eth0"), shipped.replace("eth1", "eth0"))

    def test_what_it_prints_is_valid_and_prints_the_same_again(self):
        printed = self.check(settings(self.lab.dir, {"allow": ["198.51.100.10", "203.0.113.128/25"], "block": {"ladder": ["5m", "30m"]}}), 0)
        self.assertEqual(self.check(printed, 0), printed)

    def test_each_fault_is_told_with_its_place(self):
        for fault, place in (("blok: {}", "2:1"), ("sources: {capacity: many}", "2:21"), ("block: {ladder: [5 parsecs]}", r"2:\d+"),
                             ("mode: sideways", "2:7"), ("allow: [198.51.100.300]", r"2:\d+"), ("prefix: {ipv4: 33}", r"2:\d+"),
                             ("block: {ladder: []}", r"2:\d+"), ("sip: {ports: [0]}", r"2:\d+"), ("idle: {", r"\d+:\d+"), ("mode: monitor\nmode: monitor", r"3:1")):
            self.assertRegex(self.check(f"ports: {{outside: eth1}}\n{fault}\n", 1), rf"check\.yaml:{place}: .+", fault)

    def test_version(self):
        self.assertRegex(run([self.program, "version"]).stdout, r"\d+\.\d+\.\d+")


if __name__ == "__main__":
    main()
