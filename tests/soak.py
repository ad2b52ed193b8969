#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Honest phones beside every attack at once, against a live Kamailio: tests/soak.py PROGRAM SECONDS [--disturb], as root.

Phones at home, an office behind one address, offices that come back all at once after an outage, and calls between them; beside it
SIPVicious under its own name and another, nmap, floods, forged floods, guessers quick and patient. At the end: did every honest
registration and call succeed, was any honest address held, and what of the attackers' came through?
--disturb: meanwhile the blocks are flushed, the settings are read anew, the daemon is killed and started anew, and the interface goes down and up again.
"""
import concurrent.futures
import os
import pathlib
import signal
import sys
import time

from lab import EXCHANGE, GATEWAY_V4, Callees, Calls, Kamailio, Network, Phones, Sipward
from lab.campaign import Campaign
from lab.network import wait_until

HOMES = [f"203.0.113.{host}" for host in range(10, 30)]
CALLERS = [f"203.0.113.{host}" for host in range(40, 50)]
CALLEES = [f"203.0.113.{host}" for host in range(200, 210)]
OFFICE, RETURNING = "203.0.113.99", [f"203.0.113.{host}" for host in range(101, 161)]
OFFICE_PHONES, RETURNING_PHONES = 40, 200
STORM_EVERY_S, STORM_PER_SECOND = 45, 100
DISTURB_EVERY_S = 20
EXCHANGE_WORDS = {"LAB_CHILDREN": 8, "LAB_LOOKUP_US": 200}  # fast enough to answer what gets through


class Soak:
    def __init__(self, network, program, seconds, disturbed):
        self.network, self.seconds = network, seconds
        self.failures, self.disturbances = [], []
        self.disturbed = disturbed
        self.kamailio = Kamailio(network, EXCHANGE, EXCHANGE_WORDS)
        self.program = program
        self.daemon = Sipward(network, program, sources={"capacity": 262144})
        self.campaign = Campaign(network)
        self.callees = Callees(network, CALLEES, 1190)
        self.storms = []

    def honest(self):
        """The loads that go on all the time, by name."""
        return {
            "phones at home, registrations": Phones(self.network, HOMES, rate=10),
            "an office of 40, registrations": Phones(self.network, [OFFICE] * OFFICE_PHONES, rate=0.7, first_user=2900, natted=True),
            "calls": Calls(self.network, [(address, 1140 + i, self.callees.users[i]) for i, address in enumerate(CALLERS)], rate=4),
        }

    def storm(self):
        """An office of 200 phones is back, all of them at once."""
        address = RETURNING[len(self.storms) % len(RETURNING)]
        self.storms.append((address, Phones(self.network, [address] * RETURNING_PHONES, rate=STORM_PER_SECOND, count=RETURNING_PHONES, first_user=2000,
                                            natted=True)))

    def play(self):
        loads = self.honest()
        time.sleep(2)
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            campaign = thread.submit(self.campaign.run, self.seconds)
            try:
                end = time.monotonic() + self.seconds
                storm_at = time.monotonic() + min(STORM_EVERY_S, self.seconds / 3)
                disturb_at = time.monotonic() + (min(DISTURB_EVERY_S, self.seconds / 4) if self.disturbed else 2 * self.seconds)
                while (now := time.monotonic()) < end and not campaign.done():
                    if now >= storm_at:
                        self.storm()
                        storm_at += STORM_EVERY_S
                    if now >= disturb_at:
                        self.disturb()
                        disturb_at += min(DISTURB_EVERY_S, self.seconds / 4)
                    time.sleep(0.2)
            finally:
                self.campaign.end()
            campaign.result()
        self.tell_honest(loads)
        self.tell_attackers()
        self.tell_daemon()

    # ---- what an operator, or bad luck, does meanwhile

    def disturb(self):
        """The next of them, in turn."""
        ways = (self.flush, self.reload, self.kill, self.flap)
        way = ways[len(self.disturbances) % len(ways)]
        self.disturbances.append(way.__name__)
        way()

    def flush(self):
        self.expect(self.daemon.command("flush").returncode == 0, "`sipward flush` failed")

    def reload(self):
        self.daemon.child.send_signal(signal.SIGHUP)

    def kill(self):
        self.daemon.child.kill()
        self.daemon.child.wait()
        self.daemon.child = self.network.spawn("edge", [self.program, "run", "--config", self.daemon.settings], f"{self.daemon.dir.name}/output")
        self.expect(wait_until(self.daemon.ready, 30), "sipward did not come back after it was killed")

    def flap(self):
        self.network.run("edge", ["ip", "link", "set", "eth1", "down"])
        time.sleep(0.3)
        self.network.run("edge", ["ip", "link", "set", "eth1", "up"])
        self.network.run("edge", ["ip", "route", "replace", "default", "via", GATEWAY_V4])

    # ---- what came of it

    def expect(self, kept, text):
        if not kept:
            self.failures.append(text)

    def tell_honest(self, loads):
        results = {name: load.stop(40) for name, load in loads.items()}
        storms = [load.wait(40) for _, load in self.storms]
        if storms:
            results[f"{len(storms)} offices of {RETURNING_PHONES} back at once"] = tuple(map(sum, zip(*storms)))
        print(f"\n{'honest':<34} succeeded  failed")
        for name, (succeeded, failed) in results.items():
            print(f"{name:<34} {succeeded:>9}  {failed:>6}")
            self.expect(succeeded > 0 and failed == 0, f"{name}: {failed} failed, {succeeded} succeeded")
        self.sent, self.reached = self.network.counted("net", "sent"), self.network.counted("edge", "reached")
        lost = {a: n - self.reached.get(a, 0) for a, n in self.sent.items() if a.startswith("203.0.113.") and n != self.reached.get(a, 0)}
        self.expect(not lost or "flap" in self.disturbances, f"datagrams of honest addresses were lost: {lost}")
        held = [line for line in self.daemon.log() if line.split()[1] in ("block", "limit") and line.split()[2].startswith("203.0.113.")]
        self.expect(not held, f"honest addresses were held: {held}")

    def tell_attackers(self):
        print(f"\n{'attack':<26} {'from':<16} {'sent':>7} {'reached':>8}  convicted for, after")
        for attack in self.campaign.done:
            mine = [attack.address] if attack.sources == 1 else self.range(attack)
            sent, reached = (sum(counted.get(address, 0) for address in mine) for counted in (self.sent, self.reached))
            line = next((line for address in mine[:64] if (line := self.daemon.logged("block", f"{address}/32"))), None)
            reason = line["reason"] if line else None
            print(f"{attack.name:<26} {attack.address:<16} {sent:>7} {reached:>8}  "
                  + (f"{reason}, {line['packets']} packets" if line else "not"))
            if sent or attack is not self.campaign.done[-1]:  # the last one may have been stopped before it began
                self.expect(sent > 0, f"{attack.name} sent nothing")
                self.expect(reason in attack.reasons or self.disturbances, f"{attack.name} from {attack.address}: convicted for {reason}, expected {attack.reasons}")

    @staticmethod
    def range(attack):
        octets = [int(part) for part in attack.address.split(".")]
        first = int.from_bytes(octets, "big")
        return [".".join(str(part) for part in (first + i).to_bytes(4, "big")) for i in range(attack.sources)]

    def tell_daemon(self):
        status = self.daemon.ask("status")
        self.expect(status["received"] == status["passed"] + status["dropped"] == sum(status["verdicts"].values()), f"the counters do not add up: {status}")
        lost = {name: count for name, count in status["lost"].items() if count}
        alerts = [line for line in self.daemon.log() if line.split()[1] == "alert"]
        about = pathlib.Path(f"/proc/{self.daemon.child.pid}/status").read_text().splitlines()
        memory = [line.split()[1] for line in about if line.startswith("VmRSS")]
        if self.disturbances:
            print(f"\ndisturbed {len(self.disturbances)} times: {', '.join(self.disturbances)}")
        print(f"\nsipward: {status['received']} packets, {status['sources']} sources, {self.daemon.cpu_seconds():.1f} s of CPU, "
              f"{int(memory[0]) // 1024} MiB, lost {lost or 'nothing'}; Kamailio answered to the end")
        for line in alerts[:20]:
            print(f"  {line}")
        code, _ = self.daemon.stop()
        self.expect(code == 0, f"sipward stopped with exit code {code}")


def main():
    words = [word for word in sys.argv[1:] if word != "--disturb"]
    if os.geteuid() or len(words) != 2:
        sys.exit("usage, as root: tests/soak.py PROGRAM SECONDS [--disturb] (tests/soak builds it)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with Network("sws") as network:
        soak = Soak(network, os.path.abspath(words[0]), float(words[1]), "--disturb" in sys.argv)
        soak.play()
    for failure in soak.failures:
        print(f"FAILED: {failure}")
    print("All of it held." if not soak.failures else f"{len(soak.failures)} did not hold.")
    sys.exit(bool(soak.failures))


if __name__ == "__main__":
    main()
