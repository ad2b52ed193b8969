#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory itself, without sipward: what it says of the others must be true of it first."""
import time

from lab import Network, Phones
from lab.case import LabTest, main
from lab.events import SetEvents
from lab.network import wait_until


class Honest(LabTest):
    def test_phones_register_with_digest_each_from_its_own_address(self):
        addresses = [f"203.0.113.{host}" for host in range(10, 30)]
        self.assertEqual(Phones(self.lab, addresses, rate=20, count=20).wait(), (20, 0))
        for address in addresses:  # a challenge and its answer, and nothing sent twice
            self.assertEqual((self.lab.sent(address), self.lab.reached(address)), (2, 2), address)

    def test_a_phone_that_the_server_does_not_know_is_counted_as_failed(self):
        self.assertEqual(Phones(self.lab, ["203.0.113.40"], rate=10, count=3, first_user=1500).wait(), (0, 3))


class Attackers(LabTest):
    def all_reached(self, source, at_least):
        self.assertGreaterEqual(self.lab.sent(source), at_least)
        self.assertEqual(self.lab.reached(source), self.lab.sent(source))

    def test_svmap_finds_the_server(self):
        self.assertIn("kamailio", self.lab.attacks.svmap("198.51.100.10", probes=50))
        self.all_reached("198.51.100.10", 50)

    def test_svwar_tells_users_from_strangers(self):
        found = self.lab.attacks.svwar("198.51.100.11", users="1090-1110")
        self.assertIn("1110 ", found)
        self.assertNotIn("1099 ", found)
        self.all_reached("198.51.100.11", 21)

    def test_svcrack_finds_a_careless_password(self):
        self.assertIn("1234 ", self.lab.attacks.svcrack("198.51.100.12", passwords="1200-1250"))
        self.all_reached("198.51.100.12", 30)

    def test_a_flood_keeps_its_pace_and_arrives_whole(self):
        start = time.monotonic()
        self.lab.attacks.flood("198.51.100.13", count=500, per_second=500)
        self.assertAlmostEqual(time.monotonic() - start, 1.0, delta=0.1)
        self.assertEqual((self.lab.sent("198.51.100.13"), self.lab.reached("198.51.100.13")), (500, 500))
        self.assertTrue(wait_until(lambda: self.lab.answered("198.51.100.13") == 500, 2))

    def test_an_ipv6_flood_arrives_too(self):
        self.lab.attacks.flood("2001:db8:66::66", count=50, per_second=500)
        self.assertEqual((self.lab.sent("2001:db8:66::66"), self.lab.reached("2001:db8:66::66")), (50, 50))


class Instruments(LabTest):
    def test_set_events_tell_of_a_new_element_and_of_nothing_else(self):
        self.lab.run("edge", ["nft", "add table inet probe; add set inet probe blocked_v4 { type ipv4_addr; }"])
        self.addCleanup(self.lab.run, "edge", ["nft", "delete table inet probe"])
        events = SetEvents(self.lab)
        self.addCleanup(events.close)
        before = time.monotonic()
        self.lab.run("edge", ["nft", "add element inet probe blocked_v4 { 198.51.100.66 }"])
        heard = events.wait_for("198.51.100.66", "blocked_v4", 2)
        self.assertIsNotNone(heard)
        self.assertLess(heard - before, 0.5)
        self.assertIsNone(events.wait_for("198.51.100.67", "blocked_v4", 0.1))

    def test_what_a_killed_run_left_behind_is_removed(self):
        with Network("swl-left") as network:
            child = network.spawn("net", ["sleep", 60], "sleep.log")
            self.assertTrue(wait_until(lambda: network.programs("net"), 2), "it never ran")
            network.remove_namespaces()
            self.assertTrue(wait_until(lambda: child.poll() is not None, 2), "its programs are still running")
            network.make_namespaces()  # would fail on names that exist


if __name__ == "__main__":
    main()
