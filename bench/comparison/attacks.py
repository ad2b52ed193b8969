# SPDX-License-Identifier: GPL-2.0-or-later
"""What is sent beside the honest load: each attack begins, goes on for some seconds, and is ended."""
import signal

from lab import SERVER_V4, Phones
from lab.campaign import SENDER, Campaign

FIRST = "198.18.7.66"
FLOOD_PER_S = 3000  # one and a half times what the exchange can look up
GUESSES_PER_S = 20
OFFICE, OFFICE_PHONES = "203.0.113.99", 200


class Sending:
    """A sender of the laboratory's own: see tests/lab/sender.py."""

    def __init__(self, key, title, kind, rate, **options):
        self.key, self.title, self.kind, self.rate, self.options = key, title, kind, rate, options

    def start(self, place, seconds, patience_s):
        words = [word for name, value in {"first": FIRST, **self.options}.items() for word in (f"--{name}", value)]
        return place.spawn("net", ["/usr/bin/python3", "-B", SENDER, self.kind, "--seconds", seconds, "--rate", self.rate, *words], f"{self.key}.log")

    def end(self, place, started):
        place.stop(started)
        if started.returncode not in (0, -signal.SIGTERM):
            raise RuntimeError(f"{self.title} did not run:\n{(place.dir / f'{self.key}.log').read_text()[-2000:]}")


class Scan(Sending):
    """SIPVicious: svmap, which does not care for answers; `disguised`, it calls itself a phone."""

    def __init__(self, key, title, tool="svmap", words=(SERVER_V4,) * 3000, disguised=False):
        super().__init__(key, title, tool, 0)
        self.words, self.disguised = words, disguised

    def start(self, place, seconds, patience_s):
        folder = place.dir / "disguised"
        if self.disguised and not folder.exists():
            Campaign.disguise(folder)
        place.run("net", ["ip", "route", "replace", f"{SERVER_V4}/32", "dev", "o0", "src", FIRST])
        program = f"{folder}/sipvicious_{self.kind}" if self.disguised else self.kind
        return place.spawn("net", [program, *self.words], f"{self.key}.log")

    def end(self, place, started):
        if started.poll() is None:
            started.send_signal(signal.SIGINT)
        place.stop(started)


class Office:
    """No attack: an office of 200 phones behind one address is back after an outage. All of them register within two seconds."""
    key, title = "office", "an office of 200 phones returns"

    def start(self, place, seconds, patience_s):
        return Phones(place, [OFFICE] * OFFICE_PHONES, rate=100, count=OFFICE_PHONES, first_user=2000, natted=True, patience_s=patience_s)

    def end(self, place, started):
        """Its phones are honest: they count with the others."""
        return started


OPERATORS = (
    Scan("scan", "SIPVicious scan (svmap)"),
    Sending("guess", "password guessing", "guess", GUESSES_PER_S),
    Sending("flood", "REGISTER flood, one host", "flood", FLOOD_PER_S),
    Sending("net24", "REGISTER flood, 50 hosts of a /24", "flood", FLOOD_PER_S, first="198.18.7.1", sources=50),
    Sending("forged", "REGISTER flood, 100,000 forged", "flood", FLOOD_PER_S, first="198.18.0.0", sources=100_000),
    Office(),
)
# Case by case, for the README: what else there is, beside the above.
FURTHER = (
    Sending("thin", "REGISTER flood, 250 hosts of a /24", "flood", FLOOD_PER_S, first="198.18.7.1", sources=250),
    Scan("disguised", "svmap under a phone's name", disguised=True),
    Scan("svwar", "svwar (users, REGISTER)", "svwar", ("-m", "REGISTER", "--maximumtime", "4", "-e", "1060-3000", SERVER_V4)),
    Scan("svcrack", "svcrack (passwords)", "svcrack", ("-u", "1001", "--maximumtime", "4", "-r", "1300-3000", SERVER_V4)),
    Scan("svcrack_disguised", "svcrack under a phone's name", "svcrack", ("-u", "1001", "--maximumtime", "4", "-r", "1300-3000", SERVER_V4), disguised=True),
    Sending("names", "users tried, ten a second", "users", 10),
)
