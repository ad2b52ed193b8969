#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""First light: real scanners and floods die in nftables, while honest phones go on registering."""
import socket
import threading
import time

from lab import SERVER_V4, Phones, Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main
from lab.network import wait_until

THROUGH = 1 + 5  # a scanner's first datagram, and what may slip by until its block stands
REGISTER_BURST = 75  # detect.register_flood's default: what an honest address may send at once
SLACK = 50  # the burst refills at 10/s while the flood runs, and 50 ms of it pass until the block stands


class Scanners(LabTest):
    """SIPVicious as it comes. Each attacker from a network of its own, so that no /24 falls."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward()

    def stopped(self, source):
        """Nearly nothing arrived or was answered (those that get no answer at all give up), and log and kernel say why."""
        self.assertGreater(self.lab.sent(source), 0, "the scanner did not run")
        self.assertLessEqual(self.lab.reached(source), THROUGH, f"of {self.lab.sent(source)} datagrams")
        self.assertLessEqual(self.lab.answered(source), THROUGH)
        self.assertTrue(self.daemon.holds(source))
        line = self.daemon.logged("block", f"{source}/32")
        self.assertIsNotNone(line, self.daemon.log())
        self.assertEqual((line["reason"], line["ua"], line["for"], line["step"]), ("scanner", f'"{SCANNER}"', "5m", "1"))

    def test_svmap_is_stopped(self):
        with self.honest_phones():
            self.lab.attacks.svmap("198.18.1.66", probes=200)
        self.assertEqual(self.lab.sent("198.18.1.66"), 200)  # it does not care for answers
        self.stopped("198.18.1.66")

    def test_svwar_is_stopped_and_finds_no_user(self):
        with self.honest_phones():
            found = self.lab.attacks.svwar("198.18.2.66", users="1060-1400")
        self.stopped("198.18.2.66")
        self.assertNotIn("reqauth", found)

    def test_svwar_with_invites_is_stopped(self):
        with self.honest_phones():
            self.lab.attacks.svwar("198.18.3.66", users="1060-1400", method="INVITE")
        self.stopped("198.18.3.66")

    def test_svcrack_is_stopped_and_finds_no_password(self):
        with self.honest_phones():
            found = self.lab.attacks.svcrack("198.18.4.66")
        self.stopped("198.18.4.66")
        self.assertNotIn("1234 ", found)


class UnderWay(LabTest):
    def test_a_scan_that_was_under_way_is_stopped_when_sipward_starts(self):
        source = "198.18.20.66"
        scan = threading.Thread(target=self.lab.attacks.svwar, args=(source, "1060-3000"))
        with self.honest_phones():
            scan.start()
            self.assertTrue(wait_until(lambda: self.lab.reached(source) > 100, 5))
            with Sipward(self.lab, self.program) as daemon:
                sent, reached = self.lab.sent(source), self.lab.reached(source)
                scan.join()
                self.assertTrue(daemon.holds(source, seconds=0))
        self.assertGreater(self.lab.sent(source), sent + 100)
        self.assertLessEqual(self.lab.reached(source), reached + THROUGH)


class Floods(LabTest):
    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward()

    def test_a_register_flood_with_an_honest_face_is_stopped_within_its_burst(self):
        with self.honest_phones():
            self.lab.attacks.flood("198.18.5.66", count=1500, per_second=500)
        reached = self.lab.reached("198.18.5.66")
        self.assertGreaterEqual(reached, REGISTER_BURST, "convicted before it broke the limit")
        self.assertLessEqual(reached, REGISTER_BURST + SLACK)
        line = self.daemon.logged("block", "198.18.5.66/32")
        self.assertEqual(line["reason"], "register_flood")
        self.assertEqual(line["method"], "REGISTER")

    def test_phones_behind_one_address_within_the_limit_are_left_alone(self):
        with self.honest_phones(addresses=("203.0.113.77",), rate=4):
            self.lab.attacks.flood("198.18.6.66", count=600, per_second=300)
        self.assertTrue(self.daemon.holds("198.18.6.66"))
        self.assertNotIn("203.0.113.77", self.daemon.in_set("blocked_v4"))

    def test_the_fourth_offender_of_a_network_brings_all_of_it_down(self):
        with self.honest_phones():
            for host in (1, 2, 3):
                self.lab.attacks.flood(f"198.51.100.{host}", count=2, per_second=20, user_agent=SCANNER)
                self.assertTrue(self.daemon.holds(f"198.51.100.{host}"))
            self.lab.attacks.flood("198.51.100.200", count=5, per_second=100)  # a neighbour who did nothing yet
            self.assertEqual(self.lab.reached("198.51.100.200"), 5)
            self.lab.attacks.flood("198.51.100.4", count=2, per_second=20, user_agent=SCANNER)
            self.assertTrue(self.daemon.holds("198.51.100.0", name="blocked_net_v4"))
            self.lab.attacks.flood("198.51.100.201", count=50, per_second=100)
        self.assertEqual(self.lab.reached("198.51.100.201"), 0)
        self.assertEqual(self.daemon.logged("block", "198.51.100.0/24")["reason"], "prefix")

    def test_the_blocked_lose_the_sip_service_and_nothing_else(self):
        self.lab.attacks.flood("198.18.7.66", count=5, per_second=20, user_agent=SCANNER)
        self.assertTrue(self.daemon.holds("198.18.7.66"))
        ping = self.lab.run("net", ["ping", "-c", "3", "-i", "0.05", "-W", "1", "-I", "198.18.7.66", SERVER_V4])
        self.assertIn(" 0% packet loss", ping.stdout)

    def test_answers_to_the_blocked_are_dropped_on_their_way_out(self):
        self.assertEqual(self.daemon.command("block", "198.18.8.66").returncode, 0)
        with self.lab.attacks.socket("198.18.8.66") as blocked, self.lab.attacks.socket("198.18.9.66") as other, self.lab.here("edge"):
            self.assertFalse(self.answer_arrives(blocked))
            self.assertTrue(self.answer_arrives(other))

    def answer_arrives(self, receiver):
        """Does a datagram from a SIP port of the edge (5061: the server holds 5060) reach this socket?"""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((SERVER_V4, 5061))
            receiver.settimeout(0.3)
            try:
                sender.sendto(b"SIP/2.0 200 OK\r\n\r\n", receiver.getsockname())
                return bool(receiver.recv(100))
            except (PermissionError, TimeoutError):  # a drop on the way out shows to the sender as EPERM
                return False


class Forged(LabTest):
    """What comes in a customer's name may be somebody else's."""

    def test_a_flood_in_a_customers_name_is_limited_and_his_phone_goes_on_by_its_known_port(self):
        daemon = self.sipward()
        customer = "203.0.113.90"
        self.assertEqual(Phones(self.lab, [customer], rate=2, count=3).wait(), (3, 0))
        before = self.lab.reached(customer)
        phone = Phones(self.lab, [customer], rate=4)
        self.lab.attacks.flood(customer, count=3000, per_second=600)
        self.assertTrue(daemon.holds(customer, name="limited_v4"))
        ports = [element["val"]["concat"] for element in self.lab.elements("edge", "sipward", "known_endpoint_v4")]
        self.assertEqual(ports, [[customer, 5060]])
        time.sleep(1)  # and goes on after it
        succeeded, failed = phone.stop()
        self.assertEqual(failed, 0, f"beside {succeeded} that succeeded")
        self.assertGreater(succeeded, 16)
        self.assertEqual(phone.rows()[-1]["Retransmissions(C)"], "0", "nothing of the phone's was lost")
        self.assertNotIn(customer, daemon.in_set("blocked_v4"))
        self.assertLess(self.lab.reached(customer) - before, 2000, "most of the flood")
        self.assertEqual(daemon.logged("limit", f"{customer}/32")["trusted"], "yes")


if __name__ == "__main__":
    main()
