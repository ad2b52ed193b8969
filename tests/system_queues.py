#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Two workers, each with a queue of its own of every port: one table, one verdict, nothing lost and nothing out of order."""
import os
import struct
import unittest

import system_fragments
import system_inline
from lab import SERVER_V4, Phones
from lab.attackers import SCANNER
from lab.case import LabTest, main
from lab.network import wait_until
from scapy.all import IP, UDP, Ether, Raw, raw

TWO = {"cores": [0, 1], "memory": {"size": "128 MiB"}}
MORE_SERVERS = [f"192.0.2.{host}" for host in range(11, 35)]  # that one queue has them all: one run in eight million
FEW_CPUS = (os.cpu_count() or 1) < 2


class Workers(LabTest):
    """What is true of two workers in either mode."""

    def assert_shared_out(self, daemon, both=True):
        status = daemon.ask("status")
        workers = status["workers"]
        self.assertEqual(len(workers), 2)
        for worker in workers:
            self.assertEqual(worker["received"], worker["passed"] + worker["dropped"])
        self.assertEqual(sum(worker["received"] for worker in workers), status["received"])
        self.assertEqual(status["received"], status["passed"] + status["dropped"])
        self.assertEqual(status["received"], sum(status["verdicts"].values()))
        self.assertEqual(status["lost"], {"rx": 0, "offences": 0})
        if both:
            self.assertGreater(min(worker["received"] for worker in workers), 0, workers)
        return status

    def received(self, daemon):
        return [worker["received"] for worker in daemon.ask("status")["workers"]]

    def blocks_logged(self, daemon, source):
        return [line for line in daemon.log() if f" block {source}/32 " in line]


@unittest.skipIf(FEW_CPUS, "one CPU")
class Monitor(Workers):
    def setUp(self):
        self.daemon = self.sipward_for_one_test(**TWO, sip={"servers": [SERVER_V4, *MORE_SERVERS]})

    def sipward_for_one_test(self, **changes):
        daemon = system_inline.Sipward(self.lab, self.program, **changes)
        self.addCleanup(daemon.__exit__)
        return daemon

    def test_phones_register_and_both_workers_read_them(self):
        addresses = [f"203.0.113.{host}" for host in range(10, 40)]
        self.assertEqual(Phones(self.lab, addresses, rate=20, count=30).wait(), (30, 0))
        # A challenge, its answer, and what the server says to both.
        wait_until(lambda: self.daemon.ask("status")["verdicts"]["answer"] == 60, 5)
        status = self.assert_shared_out(self.daemon)
        self.assertEqual((status["verdicts"]["clean"], status["verdicts"]["answer"]), (60, 60))

    def test_a_conversation_is_one_workers_and_read_once(self):
        for host in range(80, 90):
            before = self.received(self.daemon)
            self.lab.attacks.flood(f"203.0.113.{host}", count=10, per_second=500)
            self.assertTrue(wait_until(lambda: sum(self.received(self.daemon)) >= sum(before) + 20, 5), "10 requests and their answers")
            fewer, more = sorted(now - then for now, then in zip(self.received(self.daemon), before))
            self.assertLessEqual(fewer, 2, "more than a neighbour's multicast reports, which look like fragments to the filter")
            self.assertLessEqual(more, 22, "read twice")

    def test_one_source_that_reaches_several_servers_by_both_queues_is_convicted_once_and_as_one(self):
        source = "198.51.100.80"
        for address in MORE_SERVERS:
            self.lab.run("edge", ["ip", "addr", "add", f"{address}/24", "dev", "eth1"])
            self.addCleanup(self.lab.run, "edge", ["ip", "addr", "del", f"{address}/24", "dev", "eth1"])
        with self.lab.attacks.socket(source) as sender:
            for number in range(60):
                sender.sendto(self.lab.attacks.request(source, "a phone"), (MORE_SERVERS[number % len(MORE_SERVERS)], 5060))
            self.assertFalse(self.daemon.holds(source, 0.5), "60 are within the burst of 75")
            for number in range(60):
                sender.sendto(self.lab.attacks.request(source, "a phone"), (MORE_SERVERS[number % len(MORE_SERVERS)], 5060))
        self.assertTrue(self.daemon.holds(source))
        self.assertEqual(len(self.blocks_logged(self.daemon, source)), 1)
        (block,) = [b for b in self.daemon.ask("blocks") if b["subject"] == f"{source}/32"]
        self.assertEqual(block["reason"], "register_flood")
        self.assertIn(block["packets_before"], range(76, 86))
        self.assert_shared_out(self.daemon)

    def test_floods_by_both_queues_are_convicted_once_each(self):
        sources = [f"198.18.{network}.66" for network in range(30, 40)]
        with self.honest_phones():
            for source in sources:
                self.lab.attacks.flood(source, count=100, per_second=2000, user_agent=SCANNER)
        for source in sources:
            self.assertTrue(self.daemon.holds(source))
            self.assertEqual(len(self.blocks_logged(self.daemon, source)), 1)
        self.assert_shared_out(self.daemon)

    def test_more_cores_than_this_machine_has_are_refused(self):
        self.daemon.stop()
        with self.assertRaisesRegex(RuntimeError, "cores: this process has no CPU 1023"):
            self.sipward_for_one_test(cores=[0, 1023])


@unittest.skipIf(FEW_CPUS, "one CPU")
class Forwarding(Workers, system_inline.Forwarding):
    """What one worker forwards, two do. Without what does not depend on who does it."""
    test_ping_of_every_size_both_ways = None
    test_neighbours_find_each_other = None
    test_half_made_checksums_are_completed = None
    test_a_tagged_scanner_is_dropped = None
    test_the_kernel_hears_nothing_by_its_own_way = None
    test_only_the_chains_that_inline_needs = None

    def setUp(self):
        self.daemon = self.started(**TWO)

    def tearDown(self):
        self.assert_shared_out(self.daemon, both=False)

    def test_each_sources_frames_leave_in_their_order_and_all_of_them(self):
        marker = os.urandom(8)
        for near, far, both_ways in ((("net", "o0"), ("edge", "sip0"), 1), (("edge", "sip0"), ("net", "o0"), -1)):
            before = self.received(self.daemon)
            sender, listener = self.wire(*near), self.wire(*far)
            sent = {}
            for number in range(100):
                for host in range(1, 31):
                    ends = [f"198.51.100.{host}", SERVER_V4][::both_ways]
                    packet = IP(src=ends[0], dst=ends[1]) / UDP(sport=10000 + number % 7, dport=10002)
                    frame = raw(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet / Raw(marker + struct.pack("!BH", host, number)))
                    sent.setdefault(host, []).append(frame)
            for number in range(100):
                for frames in sent.values():
                    sender.send(frames[number])
            came = {}
            for frame in self.heard(listener, marker):
                came.setdefault(frame[frame.index(marker) + 8], []).append(frame)
            self.assertEqual(came, sent)
            more = [now - then for now, then in zip(self.received(self.daemon), before)]
            self.assertGreater(min(more), 100, "one worker did it all")

    def test_a_flood_is_convicted_once_by_its_own_packets(self):
        for host in range(90, 100):
            self.lab.attacks.flood(f"198.51.100.{host}", count=50, per_second=5000, user_agent=SCANNER)
            self.assertEqual(self.lab.reached(f"198.51.100.{host}"), 0)
        # Four of them, and their /24 falls.
        self.assertTrue(wait_until(lambda: "198.51.100.0/24" in [block["subject"] for block in self.daemon.ask("blocks")], 2))
        for host in range(90, 100):
            self.assertLessEqual(len(self.blocks_logged(self.daemon, f"198.51.100.{host}")), 1)
        status = self.assert_shared_out(self.daemon)
        self.assertEqual(sum(status["verdicts"][why] for why in ("scanner", "blocked", "blocked_prefix")), 500)


@unittest.skipIf(FEW_CPUS, "one CPU")
class Fragments(system_fragments.Fragments):
    """Of a datagram all fragments meet at one of two workers."""

    def setUp(self):
        super().setUp()
        self.assertEqual(len(self.daemon.ask("status")["workers"]), 2)

    def started(self, **changes):
        return super().started(**{**TWO, **changes})


if __name__ == "__main__":
    main()
