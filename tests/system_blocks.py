#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is blocked, as what, for how long; and who never is."""
import re
import time

from scapy.all import (Dot1AD, Dot1Q, Ether, IP, IPOption_Router_Alert, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, UDP, Raw, fragment,
                       fragment6, raw)

from lab import GATEWAY_V4, SERVER_V4, SERVER_V6
from lab.attackers import SCANNER
from lab.case import LabTest, main
from lab.network import wait_until


class Expiry(LabTest):
    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward(block={"ladder": ["3s"]})

    def test_a_block_ends_on_time_and_its_closing_line_says_what_it_dropped(self):
        source = "198.51.100.66"
        self.lab.attacks.flood(source, count=200, per_second=200, user_agent=SCANNER)
        self.assertTrue(self.daemon.holds(source))
        dropped = self.lab.sent(source) - self.lab.reached(source)
        self.assertGreater(dropped, 150)
        self.assertTrue(wait_until(lambda: self.daemon.logged("unblock", f"{source}/32"), 4), self.daemon.log())
        self.assertFalse(self.daemon.holds(source, seconds=0))
        line = self.daemon.logged("unblock", f"{source}/32")
        self.assertEqual(line["reason"], "expired")
        # All that was kept from the server, and the server's answers to what it did get, as far as they too were too late.
        self.assertIn(int(line["dropped"]), range(dropped, dropped + self.lab.reached(source) + 1))

        reached = self.lab.reached(source)
        self.lab.attacks.flood(source, count=3, per_second=20)  # once more as an honest phone would
        self.assertEqual(self.lab.reached(source), reached + 3, "it is still cut off")


class NeverBlocked(LabTest):
    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward(allow=["198.51.100.10", "203.0.113.128/25"])

    def passes_whole(self, source):
        before = self.lab.reached(source)
        self.lab.attacks.flood(source, count=100, per_second=500, user_agent=SCANNER)
        self.assertEqual(self.lab.reached(source), before + 100)
        self.assertNotIn(source, self.daemon.in_set("blocked_v4"))
        self.assertIsNone(self.daemon.logged("block", f"{source}/32"))

    def test_an_address_of_the_allow_list(self):
        self.passes_whole("198.51.100.10")

    def test_an_address_in_a_range_of_the_allow_list(self):
        self.passes_whole("203.0.113.200")

    def test_the_default_gateway(self):
        self.passes_whole(GATEWAY_V4)

    def test_an_own_address_that_somebody_forges(self):
        forged = Ether(dst="ff:ff:ff:ff:ff:ff") / IP(src=SERVER_V4, dst=SERVER_V4) / UDP(sport=5060, dport=5060) / Raw(
            self.lab.attacks.request(SERVER_V4, SCANNER))
        for _ in range(5):
            self.lab.attacks.frame(raw(forged))
        self.lab.attacks.flood("198.18.1.66", count=1, per_second=1, user_agent=SCANNER)  # what came before has been judged by then
        self.assertTrue(self.daemon.holds("198.18.1.66"))
        self.assertNotIn(SERVER_V4, self.daemon.in_set("blocked_v4"))

    def test_an_allowed_host_whose_neighbours_offend(self):
        for host in (61, 62, 63, 64):
            self.lab.attacks.flood(f"198.51.100.{host}", count=2, per_second=50, user_agent=SCANNER)
            self.assertTrue(self.daemon.holds(f"198.51.100.{host}"))
        self.passes_whole("198.51.100.10")


class Frames(LabTest):
    """Whatever is wrapped around it, the datagram inside is judged."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward()

    def convicts(self, source, *layers):
        """A scanner's REGISTER inside `layers` (those above IP, or IP and its extensions) puts its sender into the set."""
        packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        for layer in layers:
            packet = packet / layer
        self.lab.attacks.frame(raw(packet / UDP(sport=5060, dport=5060) / Raw(self.lab.attacks.request(source, SCANNER))))
        subject = source[: source.index("::") + 2] if ":" in source else source
        self.assertTrue(self.daemon.holds(subject), f"{subject} is not in the set: {self.daemon.log()}")

    def test_plain(self):
        self.convicts("198.18.10.1", IP(src="198.18.10.1", dst=SERVER_V4))

    def test_in_a_vlan(self):
        self.convicts("198.18.11.1", Dot1Q(vlan=7), IP(src="198.18.11.1", dst=SERVER_V4))

    def test_in_a_vlan_within_a_provider_vlan(self):
        self.convicts("198.18.12.1", Dot1AD(vlan=100), Dot1Q(vlan=7), IP(src="198.18.12.1", dst=SERVER_V4))

    def test_ipv4_with_options(self):
        self.convicts("198.18.13.1", IP(src="198.18.13.1", dst=SERVER_V4, options=[IPOption_Router_Alert()]))

    def test_ipv6(self):
        self.convicts("2001:db8:a:1::1", IPv6(src="2001:db8:a:1::1", dst=SERVER_V6))

    def test_ipv6_with_extension_headers(self):
        self.convicts("2001:db8:a:2::1", IPv6(src="2001:db8:a:2::1", dst=SERVER_V6), IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt())

    def send_in_pieces(self, pieces):
        self.assertGreater(len(pieces), 2)
        for piece in pieces:
            self.lab.attacks.frame(raw(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / piece))

    def test_an_ipv4_datagram_in_pieces_convicts_as_a_whole(self):
        """The kernel puts IPv4 fragments together for the packet socket (PACKET_FANOUT_FLAG_DEFRAG)."""
        whole = IP(src="198.18.14.1", dst=SERVER_V4, id=7) / UDP(sport=5060, dport=5060) / Raw(self.lab.attacks.request("198.18.14.1", SCANNER))
        self.send_in_pieces(fragment(whole, fragsize=160))
        self.assertTrue(self.daemon.holds("198.18.14.1"))

    def test_an_ipv6_datagram_in_pieces_convicts_as_a_whole(self):
        """The kernel does it for IPv4 only."""
        whole = (IPv6(src="2001:db8:a:3::1", dst=SERVER_V6) / IPv6ExtHdrFragment(id=7) / UDP(sport=5060, dport=5060)
                 / Raw(self.lab.attacks.request("2001:db8:a:3::1", SCANNER).replace(b"User-Agent", b"X-Note: " + b"x" * 3000 + b"\r\nUser-Agent")))
        pieces = fragment6(whole, 1280)
        before = self.daemon.ask("status")["verdicts"]["scanner"]
        self.send_in_pieces(pieces)
        self.assertTrue(self.daemon.holds("2001:db8:a:3::"))
        self.assertEqual(self.daemon.ask("status")["verdicts"]["scanner"] - before, len(pieces))

    def test_every_packet_has_one_verdict(self):
        self.lab.attacks.flood("198.18.15.1", count=200, per_second=400)
        status = self.daemon.ask("status")
        self.assertGreaterEqual(status["received"], 200)
        self.assertEqual(status["received"], status["passed"] + status["dropped"])
        self.assertEqual(status["received"], sum(status["verdicts"].values()))


class Ipv6(LabTest):
    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward()

    def test_an_ipv6_attacker_is_blocked_with_its_whole_64(self):
        self.lab.attacks.flood("2001:db8:66::66", count=50, per_second=100, user_agent=SCANNER)
        self.assertLessEqual(self.lab.reached("2001:db8:66::66"), 6)
        self.assertTrue(self.daemon.holds("2001:db8:66::"))
        self.assertEqual(self.daemon.logged("block", "2001:db8:66::/64")["reason"], "scanner")
        self.lab.attacks.flood("2001:db8:66::67", count=20, per_second=100)
        self.assertEqual(self.lab.reached("2001:db8:66::67"), 0, "a neighbour in the same /64 came through")
        self.lab.attacks.flood("2001:db8:113::10", count=20, per_second=100)
        self.assertEqual(self.lab.reached("2001:db8:113::10"), 20)


class DryRun(LabTest):
    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward(block={"dry_run": True})

    def test_a_dry_run_says_what_it_would_do_and_does_not(self):
        self.lab.attacks.flood("198.51.100.70", count=50, per_second=200, user_agent=SCANNER)
        self.assertEqual(self.lab.reached("198.51.100.70"), 50)
        self.assertTrue(wait_until(lambda: self.daemon.logged("would_block", "198.51.100.70/32"), 2), self.daemon.log())
        self.assertEqual(self.daemon.in_set("blocked_v4"), set())
        self.assertEqual([block["action"] for block in self.daemon.ask("blocks")], ["would_block"])


class Log(LabTest):
    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward(scanners={"user_agents": ["wolf*"]})

    def test_a_header_can_forge_no_line_and_no_terminal_escape(self):
        self.lab.attacks.flood("198.51.100.80", count=1, per_second=1, user_agent='wolf" reason=none \x1b[2J\x9b31m\t\x7f end')
        self.assertTrue(self.daemon.holds("198.51.100.80"))
        text = (self.daemon.dir / "block.log").read_bytes()
        self.assertEqual(re.findall(rb"[^\x20-\x7e\n]", text), [])
        self.assertEqual(self.daemon.logged("block", "198.51.100.80/32")["reason"], "scanner")

    def test_a_line_is_as_documented(self):
        self.lab.attacks.flood("198.51.100.81", count=2, per_second=20, user_agent=SCANNER)
        self.assertTrue(self.daemon.holds("198.51.100.81"))
        lines = [line for line in self.daemon.log() if "198.51.100.81/32" in line]
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z block 198\.51\.100\.81/32 reason=scanner for=5m step=1 '
                                   r'ua="friendly-scanner" .*method=REGISTER .*proven=no')
        stamp = time.strptime(lines[0][:19], "%Y-%m-%dT%H:%M:%S")
        self.assertLess(abs(time.mktime(time.gmtime()) - time.mktime(stamp)), 60, "not UTC")


if __name__ == "__main__":
    main()
