# SPDX-License-Identifier: GPL-2.0-or-later
"""Every attack that the laboratory knows, one after the other, each from a network of its own, and the patient ones all the while."""
import pathlib
import shutil
import subprocess
import threading
import time

from .attackers import Attacks
from .network import SERVER_V4, wait_until

SENDER = pathlib.Path(__file__).with_name("sender.py")
SIPVICIOUS = pathlib.Path("/usr/share/sipvicious")
SPOOFED = 50_000
FORGED_PER_S = 1000  # which the server can bear: nobody can tell one forged first REGISTER from a new customer's


class Attack:
    """One attacker: what it is, where it comes from (an address, or the first of `sources`), and the reasons it may be convicted for.
    None among the reasons: it may end unconvicted."""

    def __init__(self, name, address, reasons, sources=1):
        self.name, self.address, self.reasons, self.sources = name, address, reasons, sources


class Campaign:
    def __init__(self, network):
        self.network = network
        self.attacks = Attacks(network)
        self.done = []  # the attacks that were made
        self.count = 0
        self.patient = []
        self.stopped = threading.Event()
        self.disguised = self.disguise(network.dir / "disguised")

    @staticmethod
    def disguise(folder):
        """SIPVicious under another name: a copy that calls itself a phone."""
        shutil.copytree(SIPVICIOUS, folder)
        for file, word, other in (("libs/svhelper.py", "friendly-scanner", "Yealink SIP-T46S 66.86.0.15"), ("svmap.py", '"sipvicious"', '"1100"')):
            path = folder / "sipvicious" / file
            path.write_text(path.read_text().replace(word, other))
        return folder

    def next_address(self):
        """From a /24 in which nobody was yet."""
        self.count += 1
        return f"198.18.{self.count % 250}.{60 + self.count // 250}"

    def send(self, attack, address, seconds, rate, **options):
        """Starts a sender of our own."""
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return self.network.spawn("net", ["/usr/bin/python3", "-B", SENDER, attack, "--first", address, "--seconds", seconds, "--rate", rate,
                                          "--number", self.count << 24, *words], f"{attack}-{address}.log")

    def begin(self, name, reasons, sources=1, address=None):
        attack = Attack(name, address or self.next_address(), reasons, sources)
        self.done.append(attack)
        return attack

    # ---- those who take their time

    def start_patient(self, seconds):
        """A guess, or a name tried, every ten seconds: no rate shows that."""
        for name, kind, reasons in (("a password every 10 s", "guess", ("auth_failure",)), ("a name every 10 s", "users", ("auth_failure", "enumeration"))):
            attack = self.begin(name, reasons if seconds > 330 else (None, *reasons))
            self.patient.append(self.send(kind, attack.address, seconds, 0.1))

    # ---- those who do not

    def sipvicious(self, tool, *words, disguised=False):
        attack = self.begin(f"{tool}{', another name' if disguised else ''}", ("scanner",))
        program = f"{self.disguised}/sipvicious_{tool}" if disguised else tool
        self.attacks.sipvicious(attack.address, [program, *words], 20)

    def nmap(self, script, reasons):
        attack = self.begin(f"nmap {script}", reasons)
        self.network.run("net", ["ip", "route", "replace", f"{SERVER_V4}/32", "dev", "o0", "src", attack.address])
        child = self.network.spawn("net", ["nmap", "-n", "-Pn", "-sU", "-p", 5060, "--script", script, SERVER_V4], f"{script}.log")
        self.wait(child, 20)

    def sending(self, name, reasons, kind, seconds, rate, sources=1, first=None, **options):
        attack = self.begin(name, reasons, sources, first)
        if sources > 1:
            options |= {"sources": sources, "port": 5071}  # no other sender's: it is taken at every address
        child = self.send(kind, attack.address, seconds, rate, **options)
        self.wait(child, seconds + 10)
        if child.returncode and not self.stopped.is_set():
            raise RuntimeError((self.network.dir / f"{kind}-{attack.address}.log").read_text())

    def wait(self, child, seconds):
        """Until it ends, or the time is up, or the campaign."""
        wait_until(lambda: child.poll() is not None or self.stopped.is_set(), seconds, 0.2)
        self.network.stop(child)

    def round(self):
        """All of them once."""
        yield lambda: self.sipvicious("svmap", *[SERVER_V4] * 200)
        yield lambda: self.sending("flood", ("register_flood",), "flood", 5, 500)
        yield lambda: self.sending("password guesser", ("auth_failure",), "guess", 10, 10)
        yield lambda: self.sipvicious("svwar", "-m", "REGISTER", "--maximumtime", 4, "-e", "1060-1400", SERVER_V4)
        yield lambda: self.sipvicious("svcrack", "-u", "1001", "--maximumtime", 4, "-r", "1300-1700", SERVER_V4)
        yield lambda: self.sipvicious("svmap", *[SERVER_V4] * 200, disguised=True)
        yield lambda: self.sipvicious("svwar", "-m", "INVITE", "--maximumtime", 4, "-e", "1060-1400", SERVER_V4, disguised=True)
        yield lambda: self.sipvicious("svcrack", "-u", "1001", "--maximumtime", 4, "-r", "1300-1700", SERVER_V4, disguised=True)
        yield lambda: self.sending("names tried", ("enumeration", "auth_failure"), "users", 10, 10)
        yield lambda: self.sending("flood from a /24", ("register_flood", "prefix"), "flood", 5, 2000, sources=40, first=f"198.18.{200 + self.count % 50}.1")
        yield lambda: self.nmap("sip-enum-users", ("scanner",))
        yield lambda: self.nmap("sip-methods", ("scanner", None))
        yield lambda: self.nmap("sip-brute", ("scanner", "auth_failure", "register_flood", "enumeration", None))
        yield lambda: self.sending("forged flood", (None,), "flood", 10, FORGED_PER_S, sources=SPOOFED, first="198.19.0.0")

    def run(self, seconds):
        """Round after round until the time is up."""
        end = time.monotonic() + seconds
        self.start_patient(seconds)
        while True:
            for attack in self.round():
                if time.monotonic() > end or self.stopped.is_set():
                    return
                try:
                    attack()
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    raise RuntimeError(f"{self.done[-1].name} did not run: {error}") from error

    def end(self):
        self.stopped.set()
        for child in self.patient:
            self.network.stop(child)
