#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""sipward in two minutes, told in five scenes: tests/demo.py PROGRAM, as root.

A real Kamailio, real phones, real attackers; at the end every promise made on the way is checked, and a broken one is named.
"""
import os
import signal
import sys
import threading
import time

from lab import Lab, Phones, Sipward
from lab.attackers import HONEST_FACE

PHONES = [f"203.0.113.{host}" for host in range(10, 30)]
FLOODERS = [f"198.51.100.{host}" for host in range(61, 67)]
OFFENDERS = 4  # so many of them bring their /24 down
THROUGH = 5  # of a scanner, after its first datagram
FLOOD_THROUGH = 150  # of a flooder: what an honest address may send at once, and some
TIME_LIMIT_S = 120


class Screen:
    """Plain text in a pipe or with NO_COLOR; on a terminal colours, and a last line that lives."""
    STYLES = {"title": "1;36", "good": "32", "bad": "1;31", "dim": "2", "block": "33", "strong": "1"}

    def __init__(self):
        self.terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.coloured = self.terminal and not os.environ.get("NO_COLOR")

    def style(self, name, text):
        return f"\033[{self.STYLES[name]}m{text}\033[0m" if self.coloured else text

    def say(self, text="", style=None):
        self.status("")
        print(self.style(style, text) if style else text, flush=True)

    def scene(self, number, title):
        self.say()
        self.say(f"{number}. {title}", "title")

    def status(self, text):
        if self.terminal:
            print(f"\r\033[K{self.style('dim', text) if text else ''}", end="", flush=True)


class Demo:
    def __init__(self, lab, program, screen):
        self.lab, self.program, self.screen = lab, program, screen
        self.promises = []  # (kept?, what was promised and what came of it)
        self.attackers = []  # (tool, address) with sipward in front
        self.told = 0  # lines of the block log that have been shown
        self.daemon = None
        self.phones = None

    def promise(self, kept, text):
        self.promises.append((kept, text))

    def play(self):
        start = time.monotonic()
        self.opening()
        self.phones = Phones(self.lab, PHONES, rate=10)
        time.sleep(1)
        self.without_sipward()
        self.sipward_starts()
        self.scanners()
        self.flood()
        self.what_stands_in_the_kernel()
        self.ending()
        took = time.monotonic() - start
        self.promise(took < TIME_LIMIT_S, f"it took {took:.0f} s, under two minutes")

    def opening(self):
        say = self.screen.say
        say("sipward: what it does to scanners and floods, and what it does not do to your customers", "strong")
        say("Everything here is real, and lives in network namespaces of this machine that vanish at the end.")
        say()
        say("   attackers  198.18.0.0/15, 198.51.100.0/24 ──┐      ┌──────────────────────────────────────┐")
        say("                                               ├──────┤ eth1   sipward   Kamailio 192.0.2.10 │")
        say("   phones     203.0.113.0/24 ──────────────────┘      └──────────────────────────────────────┘")

    # ---- the scenes

    def without_sipward(self):
        self.screen.scene(1, "Without sipward")
        self.screen.say(f"   {len(PHONES)} phones register with digest authentication, ten times a second, from now to the end.")
        found = self.attack("svwar", "198.18.91.66", "which users are there?", lambda a: self.lab.attacks.svwar(a, users="1080-1199"))
        users = found.count("reqauth")
        self.screen.say(f"   svwar found {users} users.", "bad")
        found = self.attack("svcrack", "198.18.92.66", "what is the password of 1001?", lambda a: self.lab.attacks.svcrack(a, passwords="1000-1400"))
        cracked = "1234 " in found
        self.screen.say("   svcrack found the password of 1001: 1234." if cracked else "   svcrack found nothing.", "bad")
        self.promise(users > 0 and cracked, "without sipward the attacks succeed, so that stopping them means something")

    def sipward_starts(self):
        self.screen.scene(2, "sipward starts, in monitor mode on eth1")
        self.daemon = Sipward(self.lab, self.program)
        table = self.lab.run("edge", ["nft", "list", "table", "inet", "sipward"]).stdout.splitlines()
        for kind in ("set", "chain"):
            names = [line.split()[1] for line in table if line.strip().startswith(f"{kind} ")]
            self.screen.say(f"   its own nftables table, inet sipward, {kind}s: {', '.join(names)}")

    def scanners(self):
        self.screen.scene(3, "The same scanners again: SIPVicious as it comes, which gives up where nobody answers")
        attacks = self.lab.attacks
        self.scanner("svmap", "198.18.1.66", "is there a SIP server?", attacks.svmap)
        found = self.scanner("svwar", "198.18.2.66", "which users are there?", lambda a: attacks.svwar(a, users="1080-1399"))
        self.promise("reqauth" not in found, "svwar finds no user any more")
        found = self.scanner("svcrack", "198.18.3.66", "what is the password of 1001?", attacks.svcrack)
        self.promise("1234 " not in found, "svcrack finds no password any more")

    def scanner(self, tool, address, question, run):
        found = self.attack(tool, address, question, run)
        self.attackers.append((tool, address))
        after_first = max(0, self.lab.reached(address) - 1)
        self.promise(after_first <= THROUGH, f"{tool}: at most {THROUGH} datagrams reach Kamailio after its first ({after_first} of {self.lab.sent(address)} did)")
        self.promise(self.daemon.holds(address), f"{tool}: {address} stands in the kernel's set")
        return found

    def flood(self):
        self.screen.scene(4, "A flood with an honest face")
        self.screen.say(f"   Six hosts of one /24 send 400 REGISTERs a second each, one after the other, as \"{HONEST_FACE}\".")
        for address in FLOODERS:
            self.attack("flood", address, "", lambda a: self.lab.attacks.flood(a, count=400, per_second=400))
            self.attackers.append(("flood", address))
        for number, address in enumerate(FLOODERS):
            reached = self.lab.reached(address)
            if number < OFFENDERS:
                self.promise(reached <= FLOOD_THROUGH and self.daemon.holds(address), f"flood: {address} is blocked within its burst ({reached} of 400 arrived)")
            else:
                self.promise(reached == 0, f"flood: nothing from {address}, its /24 is blocked ({reached} of 400 arrived)")
        self.promise(self.daemon.holds("198.51.100.0", name="blocked_net_v4"), f"198.51.100.0/24 is blocked after {OFFENDERS} of its hosts")

    def what_stands_in_the_kernel(self):
        self.screen.scene(5, "What the kernel holds now (nft list table inet sipward)")
        for name, suffix in (("blocked_v4", ""), ("blocked_net_v4", "/24")):
            for element in self.lab.elements("edge", "sipward", name):
                self.screen.say(f"   {name:<15} {element['val'] + suffix:<17} {element['counter']['packets']:>6} packets dropped, "
                                f"{element['expires']} s to go", "block")

    def ending(self):
        succeeded, failed = self.phones.stop()
        lost = sum(self.lab.sent(address) - self.lab.reached(address) for address in PHONES)
        self.screen.say()
        self.screen.say("   who       from               sent   reached Kamailio   answered", "strong")
        for tool, address in self.attackers:
            self.screen.say(self.row(tool, address, [address]))
        self.screen.say(self.row("phones", "203.0.113.0/24", PHONES) + f"   ({succeeded} of {succeeded + failed} registrations succeeded)", "good")
        self.promise(succeeded > 0 and failed == 0, f"honest phones: every registration succeeded ({succeeded} of {succeeded + failed})")
        self.promise(lost == 0, f"honest phones: not one of their datagrams was dropped ({lost} were)")
        code, seconds = self.daemon.stop()
        self.promise(code == 0 and not self.daemon.table(), f"sipward stops when told to, and takes its table with it (exit code {code}, {seconds:.1f} s)")

    def row(self, who, source, addresses):
        """A line of the table: what these addresses sent, and what became of it."""
        sent, reached, answered = (sum(map(count, addresses)) for count in (self.lab.sent, self.lab.reached, self.lab.answered))
        return f"   {who:<9} {source:<15} {sent:>7}   {reached:>16}   {answered:>8}"

    # ---- one attack, and what can be seen meanwhile

    def attack(self, tool, address, question, run):
        """Runs an attack to its end while the block log and the counters are shown; what the attacker found."""
        self.screen.say(f"   {tool} from {address}{': ' + question if question else ''}")
        found = []
        attacker = threading.Thread(target=lambda: found.append(run(address)), daemon=True)
        attacker.start()
        while attacker.is_alive():
            attacker.join(0.2)
            self.tell_the_log()
            succeeded, failed = self.phones.so_far()
            reached = self.lab.reached(address)  # before what was sent, which is then at least as much
            self.screen.status(f"     {tool} sent {self.lab.sent(address)}, Kamailio received {reached};  "
                               f"phones: {succeeded} registrations, {failed} failed")
        self.tell_the_log()
        reached, answered = self.lab.reached(address), self.lab.answered(address)
        self.screen.say(f"     sent {self.lab.sent(address)}, Kamailio received {reached}, {answered} answers came back",
                        "good" if self.daemon and reached <= FLOOD_THROUGH else "bad")
        if not found:
            raise RuntimeError(f"{tool} did not run")
        return found[0] or ""

    def tell_the_log(self):
        """Shows what the block log has grown by."""
        lines = self.daemon.log() if self.daemon else []
        for line in lines[self.told:]:
            self.screen.say(f"     {line}", "block")
        self.told = len(lines)

    # ---- at the end

    def verdict(self):
        """Names what was promised and what came of it; the exit code."""
        self.screen.say()
        self.screen.say("Promised, and checked:", "strong")
        for kept, text in self.promises:
            self.screen.say(f"   {'kept  ' if kept else 'BROKEN'}  {text}", "good" if kept else "bad")
        broken = sum(not kept for kept, _ in self.promises)
        self.screen.say()
        if broken:
            self.screen.say(f"{broken} of {len(self.promises)} promises were broken.", "bad")
        else:
            self.screen.say("All of it came true. Next: `sudo tests/run` runs every test; config/sipward.yaml explains every setting.", "strong")
        return 1 if broken else 0


def main():
    if os.geteuid() or len(sys.argv) != 2:
        sys.exit("usage, as root: tests/demo.py PROGRAM (tests/demo builds it)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    screen = Screen()
    try:
        with Lab("swd") as lab:
            demo = Demo(lab, os.path.abspath(sys.argv[1]), screen)
            demo.play()
    except KeyboardInterrupt:
        screen.say("Stopped; everything has been cleaned up.")
        sys.exit(130)
    except RuntimeError as error:
        screen.say(f"The demo could not be played: {error}", "bad")
        sys.exit(1)
    sys.exit(demo.verdict())


if __name__ == "__main__":
    main()
