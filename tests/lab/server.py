# SPDX-License-Identifier: GPL-2.0-or-later
"""Kamailio on the edge, with the laboratory's settings."""
import pathlib
import socket

from .network import SERVER_V4, SERVER_V6, wait_until

SETTINGS = pathlib.Path(__file__).with_name("kamailio.cfg")
EXCHANGE = pathlib.Path(__file__).with_name("exchange.cfg")  # connects calls as well; see there for its words
PROBE = (b"OPTIONS sip:sip.example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5999;branch=z9hG4bKprobe;rport\r\nMax-Forwards: 70\r\n"
         b"From: <sip:probe@sip.example.org>;tag=1\r\nTo: <sip:probe@sip.example.org>\r\nCall-ID: probe\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")


class Kamailio:
    """Starts the server and waits until it answers (on the edge itself: no packet of that crosses the wire)."""

    def __init__(self, network, settings=SETTINGS, words=(), switches=()):
        """`words` stand for further LAB_ words of the settings; `switches` are its WITH_ words."""
        text = settings.read_text()
        for word, value in {"LAB_SERVER_V4": SERVER_V4, "LAB_SERVER_V6": SERVER_V6, **dict(words)}.items():
            text = text.replace(word, str(value))
        written = network.dir / "kamailio.cfg"
        written.write_text(text)
        self.child = network.spawn("edge", ["kamailio", "-f", written, "-DD", "-E", "-m", "32", "-P", network.dir / "kamailio.pid", "-Y", network.dir]
                                   + [word for switch in switches for word in ("-A", switch)], "kamailio.log")
        with network.here("edge"):
            probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with probe:
            probe.settimeout(0.2)
            if not wait_until(lambda: self.answers(probe) or self.child.poll() is not None, 15) or self.child.poll() is not None:
                raise RuntimeError(f"Kamailio does not answer:\n{(network.dir / 'kamailio.log').read_text()[-2000:]}")

    def answers(self, probe):
        try:
            probe.sendto(PROBE, (SERVER_V4, 5060))
            return probe.recv(4000).startswith(b"SIP/2.0 200")
        except OSError:
            return False
