# SPDX-License-Identifier: GPL-2.0-or-later
"""Attackers: SIPVicious as it is, and floods and single datagrams from any address, sent on the dot."""
import signal
import socket
import subprocess
import time

from .network import SERVER_V4, SERVER_V6

HONEST_FACE = "Yealink SIP-T46S 66.86.0.15"
SCANNER = "friendly-scanner"


def register_request(source, number, user_agent):
    """A first REGISTER, as a phone sends it; `number` makes its branch, tag and Call-ID its own."""
    host = f"[{source}]" if ":" in source else source
    return (f"REGISTER sip:sip.example.org SIP/2.0\r\nVia: SIP/2.0/UDP {host}:5060;branch=z9hG4bK{number:08x};rport\r\nMax-Forwards: 70\r\n"
            f"From: <sip:1100@sip.example.org>;tag=a{number:x}\r\nTo: <sip:1100@sip.example.org>\r\nCall-ID: {number:x}@{host}\r\nCSeq: 1 REGISTER\r\n"
            f"Contact: <sip:1100@{host}:5060>\r\nUser-Agent: {user_agent}\r\nExpires: 300\r\nContent-Length: 0\r\n\r\n").encode()


class Attacks:
    """The attackers of one laboratory. SIPVicious runs to its end, or to the time given; what it found is in its output."""

    def __init__(self, network):
        self.network = network
        self.number = 0

    # ---- SIPVicious

    def svmap(self, source, probes=200, seconds=15):
        """Looks for SIP servers: the same one over and over, as a sweep of many addresses would reach a host with many."""
        return self.sipvicious(source, ["svmap"] + [SERVER_V4] * probes, seconds)

    def svwar(self, source, users="1000-1400", method="REGISTER", seconds=15):
        """Looks for users; gives up if its very first request gets no answer, and 4 s after the last one."""
        return self.sipvicious(source, ["svwar", "-m", method, "--maximumtime", 4, "-e", users, SERVER_V4], seconds)

    def svcrack(self, source, user="1001", passwords="1000-1400", seconds=15):
        """Guesses a password; gives up if its very first request gets no challenge."""
        return self.sipvicious(source, ["svcrack", "-u", user, "--maximumtime", 4, "-r", passwords, SERVER_V4], seconds)

    def sipvicious(self, source, command, seconds):
        """These tools leave their address to the routing; so one at a time."""
        self.network.run("net", ["ip", "route", "replace", f"{SERVER_V4}/32", "dev", "o0", "src", source])
        log = f"{command[0]}-{source}.log"
        child = self.network.spawn("net", command, log)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)  # it still tells what it found
            child.wait(10)
        return (self.network.dir / log).read_text(errors="replace")

    # ---- floods

    def socket(self, source):
        """A UDP socket of the net side, bound to an address."""
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        with self.network.here("net"):
            bound = socket.socket(family, socket.SOCK_DGRAM)
        bound.bind((source, 0))
        return bound

    def request(self, source, user_agent):
        """The next REGISTER of an attacker, like none before."""
        self.number += 1
        return register_request(source, self.number, user_agent)

    def flood(self, source, count, per_second, user_agent=HONEST_FACE):
        """So many REGISTERs at an even pace."""
        server = SERVER_V6 if ":" in source else SERVER_V4
        with self.socket(source) as sender:
            start = time.monotonic()
            for i in range(count):
                time.sleep(max(0.0, start + i / per_second - time.monotonic()))
                sender.sendto(self.request(source, user_agent), (server, 5060))

    def frame(self, octets):
        """One Ethernet frame's worth of anything, put on the wire as it is."""
        with self.network.here("net"):
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with wire:
            wire.bind(("o0", 0))
            wire.send(octets)

