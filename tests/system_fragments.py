#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Inline, SIP messages in IP fragments: through a real wire, judged whole, all of one pass or none."""
import os
import socket
import threading
import time

from lab import GATEWAY_V4, SERVER_V4, SERVER_V6
from lab.attackers import HONEST_FACE, SCANNER
from lab.case import main
from scapy.all import IP, UDP, Ether, Raw, fragment, raw
from system_inline import Inline


class Fragments(Inline):
    def setUp(self):
        self.daemon = self.started()
        self.marker = os.urandom(8).hex().encode()
        self.server = self.wire("edge", "sip0")

    def tearDown(self):
        self.assert_algebra(self.daemon)

    def long_request(self, source, user_agent, octets=4000):
        """A REGISTER with its User-Agent at the end, and this test's marker in every fragment."""
        head, tail = self.lab.attacks.request(source, user_agent).split(b"User-Agent:", 1)
        note = b"X-Note: " + self.marker * 10 + b"\r\n"
        while len(head) + len(tail) < octets:
            head += note
        return head + b"User-Agent:" + tail

    def send(self, source, message, port=5060):
        """By a UDP socket: the kernel's own fragments."""
        with self.lab.attacks.socket(source) as sender:
            sender.sendto(message, (SERVER_V6 if ":" in source else SERVER_V4, port))

    def pieces(self, source, message):
        """Frames for the IPv4 fragments of a message."""
        whole = IP(src=source, dst=SERVER_V4, id=int.from_bytes(os.urandom(2), "big")) / UDP(sport=5060, dport=5060) / Raw(message)
        return [raw(Ether(src=self.net_mac("o0"), dst=self.mac("sip0")) / piece) for piece in fragment(whole, fragsize=1480)]

    def net_mac(self, device):
        return self.net(f"cat /sys/class/net/{device}/address").stdout.strip()

    def arrived(self):
        return len(self.heard(self.server, self.marker))

    def verdicts(self):
        return self.daemon.ask("status")["verdicts"]

    def test_a_mark_behind_the_first_fragment_convicts_and_none_of_them_arrives(self):
        for source in ("198.51.100.66", "2001:db8:66::66"):
            before = self.verdicts()["scanner"]
            self.send(source, self.long_request(source, SCANNER))
            self.assertTrue(self.daemon.holds("2001:db8:66::" if ":" in source else source))
            self.assertEqual(self.verdicts()["scanner"] - before, 3)
        self.assertEqual(self.arrived(), 0)
        self.assertEqual((self.lab.reached("198.51.100.66"), self.lab.reached("2001:db8:66::66")), (0, 0))

    def test_an_honest_long_message_arrives_whole_and_is_answered(self):
        for source in ("203.0.113.50", "2001:db8:113::10"):
            self.send(source, self.long_request(source, HONEST_FACE))
            self.assertEqual(self.arrived(), 3)
            self.assertEqual((self.lab.reached(source), self.lab.answered(source)), (1, 1))
        self.assertEqual(self.verdicts()["clean"], 6)

    def test_fragments_out_of_order_are_the_same(self):
        for source, user_agent, arrive in (("198.51.100.68", SCANNER, 0), ("203.0.113.51", HONEST_FACE, 3)):
            frames = self.pieces(source, self.long_request(source, user_agent))[::-1]
            for frame in frames:
                self.lab.attacks.frame(frame)
            came = self.heard(self.server, self.marker)
            self.assertEqual(came, frames[:arrive])
            self.assertEqual(self.lab.reached(source), arrive // 3)

    def test_the_last_one_first_and_a_long_wait_smuggle_nothing(self):
        """The server's kernel would keep it for 30 s, and complete it with the rest."""
        frames = self.pieces("198.51.100.69", self.long_request("198.51.100.69", SCANNER))
        for frame in frames[1:]:
            self.lab.attacks.frame(frame)
        time.sleep(2.5)
        self.assertEqual(self.verdicts()["fragment_overdue"], 2)
        self.lab.attacks.frame(frames[0])
        time.sleep(2.5)
        self.assertEqual(self.verdicts()["fragment_overdue"], 3)
        self.assertEqual((self.arrived(), self.lab.reached("198.51.100.69")), (0, 0))

    def test_what_is_not_sip_passes_and_so_does_what_a_lost_fragment_left(self):
        self.assert_pings(size=8900)
        self.assert_pings(size=8900, address=SERVER_V6)
        self.assert_pings(size=8900, address=GATEWAY_V4, side="edge")
        with self.lab.here("edge"):
            media = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        with media:
            media.bind(("::", 10002))
            media.settimeout(2)
            for source in ("203.0.113.52", "2001:db8:113::10"):
                for size in (3000, 8900, 30000):
                    sent = (self.marker * (size // len(self.marker) + 1))[:size]
                    self.send(source, sent, port=10002)
                    self.assertEqual(media.recv(1 << 16), sent)
        self.arrived()
        whole = IP(src="203.0.113.53", dst=SERVER_V4, id=77) / UDP(sport=10000, dport=10002) / Raw(self.marker * 1000)
        frames = [raw(Ether(src=self.net_mac("o0"), dst=self.mac("sip0")) / piece) for piece in fragment(whole, fragsize=1480)]
        del frames[3]
        for frame in frames:
            self.lab.attacks.frame(frame)
        self.assertEqual(self.heard(self.server, self.marker), frames)

    def test_a_flood_of_pieces_stops_nobody(self):
        """Some thousands a second of never-ending datagrams, and beside them whole ones, long and short, and pings."""
        frames = []
        for number in range(400):
            frames += self.pieces(f"198.18.{number % 250}.9", b"x" * 4000)[number % 3:][:1]
        ended = threading.Event()
        with self.lab.here("net"):
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        wire.bind(("o0", 0))

        def flood():
            while not ended.is_set():
                for at, frame in enumerate(frames):
                    changed = bytearray(frame)
                    changed[14 + 12 + 3] = int.from_bytes(os.urandom(1), "big")  # the source's last octet; the checksum follows
                    changed[14 + 10:14 + 12] = checksum(bytes(changed[14:14 + 10]) + bytes(2) + bytes(changed[14 + 12:14 + 20]))
                    wire.send(changed)
                    if at % 20 == 0:
                        time.sleep(0.002)

        flooder = threading.Thread(target=flood, daemon=True)
        flooder.start()
        try:
            time.sleep(0.5)
            with self.honest_phones([f"203.0.113.{host}" for host in range(10, 14)]):
                for number in range(20):
                    self.send("203.0.113.54", self.long_request("203.0.113.54", HONEST_FACE))
                self.assert_pings(size=4000)
        finally:
            ended.set()
            flooder.join()
            wire.close()
        self.assertEqual((self.lab.reached("203.0.113.54"), self.lab.answered("203.0.113.54")), (20, 20))
        verdicts = self.verdicts()
        self.assertGreater(verdicts["fragment_displaced"], 1000)
        self.assertEqual(verdicts["transmit_full"], 0)


def checksum(header):
    """RFC 791, over a header whose own is zero."""
    total = sum(int.from_bytes(header[at:at + 2], "big") for at in range(0, len(header), 2))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return (~total & 0xFFFF).to_bytes(2, "big")


if __name__ == "__main__":
    main()
