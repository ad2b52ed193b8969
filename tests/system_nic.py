#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A NIC of DPDK's own, with queues and interrupts: a guest's virtio, whose host side dpdk-testpmd plays. It copies what arrives on
eth1 into the guest, so that sipward reads there what the kernel delivers here."""
import os
import pathlib
import shutil
import statistics
import time
import unittest

from lab import SERVER_V4, Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main, measured
from lab.events import SetEvents
from lab.network import wait_until

QUEUES = 2
ALLOWED_MS = 50.0


def drivers():
    """The drivers that the host side needs, by their paths: it would load some two hundred."""
    folder = max(pathlib.Path("/usr/lib").glob("*/dpdk/pmds-*"))
    names = ("mempool_ring", "bus_vdev", "net_vhost", "net_af_packet")
    return [word for name in names for word in ("-d", f"{folder}/librte_{name}.so")]


class Virtio(LabTest):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("dpdk-testpmd") or (os.cpu_count() or 1) < QUEUES:
            raise unittest.SkipTest("it needs dpdk-testpmd and two CPUs")

    def setUp(self):
        path = self.lab.dir / "vhost.sock"
        host = ["dpdk-testpmd", "--no-pci", "--no-huge", "--no-shconf", "-m", "192", "--no-telemetry", *drivers(), "-l", "0,1",
                "--vdev", f"net_vhost0,iface={path},queues={QUEUES}", "--vdev", f"net_af_packet0,iface=eth1,qpairs={QUEUES}", "--",
                "--forward-mode=io", f"--rxq={QUEUES}", f"--txq={QUEUES}",
                "--total-num-mbufs=4096", "--no-mlockall", "--stats-period=3600"]
        self.host = self.lab.spawn("edge", host, "testpmd.log")
        self.addCleanup(self.lab.stop, self.host)
        self.assertTrue(wait_until(path.exists, 10), (self.lab.dir / "testpmd.log").read_text(errors="replace"))
        self.daemon = Sipward(self.lab, self.program, ports={"outside": f"vdev:net_virtio_user0,path={path},queues={QUEUES}"},
                              cores=list(range(QUEUES)), memory={"size": "128 MiB"}, prefix={"offenders": 250})
        self.addCleanup(self.daemon.__exit__)

    def received(self):
        return [worker["received"] for worker in self.daemon.ask("status")["workers"]]

    def test_workers_sleep_while_it_is_quiet(self):
        self.assertEqual(self.received(), [0] * QUEUES)
        before = self.daemon.cpu_seconds()
        time.sleep(5)
        share = (self.daemon.cpu_seconds() - before) / 5
        measured(f"idle on a quiet NIC with interrupts: {share:.1%} of a CPU, {QUEUES} workers")
        self.assertLess(share, 0.02)

    def test_each_interrupt_wakes_its_worker(self):
        events = SetEvents(self.lab)
        self.addCleanup(events.close)
        times = []
        for host in range(1, 41):
            time.sleep(0.05)
            source = f"198.51.100.{host}"
            with self.lab.attacks.socket(source) as sender:
                start = time.monotonic()
                sender.sendto(self.lab.attacks.request(source, SCANNER), (SERVER_V4, 5060))
                heard = events.wait_for(source, "blocked_v4", 2)
            self.assertIsNotNone(heard, f"{source} was never blocked")
            times.append((heard - start) * 1000)
        self.assertGreater(min(self.received()), 0, "one worker read it all")
        measured(f"convicting datagram to block in the kernel, by a sleeping NIC: median {statistics.median(times):.2f} ms, worst {max(times):.2f} ms")
        self.assertLess(statistics.median(times), ALLOWED_MS)

    def test_a_flood_is_read_and_counted_whole(self):
        self.lab.attacks.flood("198.51.100.66", count=500, per_second=1000)
        self.assertTrue(self.daemon.holds("198.51.100.66"))
        status = self.daemon.ask("status")
        self.assertEqual(status["received"], status["passed"] + status["dropped"])
        self.assertEqual(status["received"], sum(status["verdicts"].values()))
        self.assertGreaterEqual(status["received"], 500)
        self.assertEqual(status["lost"], {"rx": 0, "offences": 0})
        self.assertEqual(status["verdicts"]["bad_checksum"], 0)


if __name__ == "__main__":
    main()
