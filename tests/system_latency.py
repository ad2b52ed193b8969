#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How soon the block stands: from the convicting datagram to the kernel's word that the address is in the set.

One scanner's datagram each from many addresses, at uneven distances so that the idle daemon is met in every phase of its
sleep. The clock starts just before sendto() and stops when this process has received the notification that the kernel sends
once the element's transaction is committed; so the wire, the daemon and the waking of this process are all inside.
"""
import os
import pathlib
import random
import statistics
import time

from lab import Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main, measured
from lab.events import SetEvents
from lab.network import SERVER_V4

BLOCKS = 60
ALLOWED_MS = 50.0


class Latency(LabTest):
    @classmethod
    def setUpClass(cls):
        # Their neighbours are not the subject here: no /24 may fall before all have been measured.
        cls.daemon = cls.sipward(prefix={"offenders": 250})

    def measure(self, events, source):
        """Milliseconds from the convicting datagram to the block in the kernel."""
        with self.lab.attacks.socket(source) as sender:
            datagram = self.lab.attacks.request(source, SCANNER)
            start = time.monotonic()
            sender.sendto(datagram, (SERVER_V4, 5060))
            heard = events.wait_for(source, "blocked_v4", 2)
        self.assertIsNotNone(heard, f"{source} was never blocked")
        return (heard - start) * 1000

    def test_the_block_stands_within_50_ms_of_the_convicting_packet(self):
        pauses = random.Random(5060)
        with self.honest_phones():
            events = SetEvents(self.lab)
            self.addCleanup(events.close)
            times = []
            for host in range(1, BLOCKS + 1):
                time.sleep(pauses.uniform(0.01, 0.2))
                times.append(self.measure(events, f"198.51.100.{host}"))
        measured(f"convicting datagram to block in the kernel, {BLOCKS} times: median {statistics.median(times):.2f} ms, worst {max(times):.2f} ms "
                 "(from just before sendto() until the kernel's commit notification was received)")
        self.assertLess(max(times), ALLOWED_MS)


class UnderAttack(LabTest):
    """The same while 100,000 REGISTERs come in a second, from a thousand addresses.

    Two cores have to do, so everything has its place: on the first the attacker, who makes the packets and carries them through the
    kernel to the edge, at ordinary priority; above him the control thread (SCHED_FIFO 20), and above that this process (30), which only
    sends one datagram, and wakes up. On the second core the worker is alone."""

    ATTACK, SOURCES, MEASURED = 100_000, 1000, 400
    ALLOWED_P99_MS = 20.0  # a millisecond is what is promised, and the figure tells; this is for a machine that others share

    def place(self, thread, core, priority):
        os.sched_setaffinity(thread, {core})
        if priority:
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))

    def beside_attack(self, name, **changes):
        if os.cpu_count() < 2:
            self.skipTest("it needs two CPUs")
        mac = self.lab.run("edge", ["cat", "/sys/class/net/eth1/address"]).stdout.strip()
        self.lab.run("net", ["ip", "neigh", "replace", SERVER_V4, "lladdr", mac, "dev", "o0", "nud", "permanent"])  # inline nobody answers ARP
        self.addCleanup(self.lab.run, "net", ["ip", "neigh", "del", SERVER_V4, "dev", "o0"], check=False)
        own = os.sched_getaffinity(0)
        with Sipward(self.lab, self.program, prefix={"offenders": 256}, cores=[1], block={"max_per_second": 100_000}, **changes) as daemon:
            for kamailio in self.lab.programs("edge"):
                if kamailio != daemon.child.pid:
                    os.sched_setaffinity(kamailio, {0})
            self.place(daemon.child.pid, 0, 20)
            storm = self.lab.spawn("net", ["taskset", "--cpu-list", "0", "/usr/bin/python3", "-B", pathlib.Path(__file__).parent / "lab" / "storm.py",
                                           self.ATTACK, 30, self.SOURCES, mac, "o0"], f"storm-{name}")
            time.sleep(4)  # the thousand are blocked
            events = SetEvents(self.lab)
            pauses, times, lost = random.Random(5061), [], 0
            before, start = daemon.ask("status")["received"], time.monotonic()
            try:
                self.place(0, 0, 30)
                for number in range(self.MEASURED):
                    time.sleep(pauses.uniform(0.005, 0.03))
                    source = f"{'198.51.100' if number < 200 else '203.0.113'}.{number % 200 + 1}"
                    with self.lab.attacks.socket(source) as sender:
                        datagram = self.lab.attacks.request(source, SCANNER)
                        sent = time.monotonic()
                        sender.sendto(datagram, (SERVER_V4, 5060))
                        heard = events.wait_for(source, "blocked_v4", 1)
                    if heard is None:
                        lost += 1  # a packet that the ring had no room for
                    else:
                        times.append((heard - sent) * 1000)
            finally:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
                os.sched_setaffinity(0, own)
                events.close()
            rate = (daemon.ask("status")["received"] - before) / (time.monotonic() - start)
            self.lab.stop(storm)
        times.sort()
        p99 = times[len(times) * 99 // 100]
        measured(f"convicting datagram to block in the kernel, {name}, beside {rate / 1000:.0f} kpps: median {statistics.median(times):.2f} ms, "
                 f"p99 {p99:.2f} ms, worst {times[-1]:.2f} ms of {len(times)}, {lost} not seen (attacker and control thread, SCHED_FIFO 20, on one "
                 "core, the worker on the other)")
        self.assertLessEqual(lost, self.MEASURED // 50)
        self.assertGreater(rate, self.ATTACK / 2)
        self.assertLess(p99, self.ALLOWED_P99_MS)

    def test_monitor(self):
        self.beside_attack("monitor")

    def test_inline(self):
        self.beside_attack("inline", mode="inline", ports={"outside": "eth1", "inside": "tap:sip0"})


if __name__ == "__main__":
    main()
