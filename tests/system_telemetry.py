#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""DPDK's telemetry socket, asked as dpdk-telemetry.py asks it."""
import contextlib
import json
import os
import pathlib
import socket

from lab import Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main
from lab.network import wait_until


class Telemetry(LabTest):
    def setUp(self):
        self.daemon = Sipward(self.lab, self.program, cores=[0, 1][:os.cpu_count()], memory={"size": "128 MiB"})
        self.addCleanup(self.daemon.__exit__)
        self.path = pathlib.Path(self.daemon.ask("status")["telemetry"])

    @contextlib.contextmanager
    def client(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(5)
            connection.connect(str(self.path))
            hello = json.loads(connection.recv(1024))

            def ask(command):
                connection.send(command.encode())
                return json.loads(connection.recv(hello["max_output_len"]))[command.split(",")[0]]

            yield ask

    def test_counters_are_those_of_status_and_their_identities_hold(self):
        self.lab.attacks.flood("198.51.100.10", count=50, per_second=500)
        self.lab.attacks.flood("198.51.100.11", count=50, per_second=500, user_agent=SCANNER)
        self.assertTrue(wait_until(lambda: self.daemon.ask("status")["verdicts"]["answer"] >= 50, 2))
        status = self.daemon.ask("status")
        with self.client() as ask:
            counters = ask("/sipward/counters")
            for name in ("received", "passed", "dropped", "octets", "truncated", "offences"):
                self.assertEqual(counters[name], status[name])
            verdicts = {name.removeprefix("verdict_"): count for name, count in counters.items() if name.startswith("verdict_")}
            self.assertEqual(verdicts, status["verdicts"])
            self.assertEqual(counters["received"], counters["passed"] + counters["dropped"])
            self.assertEqual(counters["received"], sum(verdicts.values()))
            workers = ask("/sipward/workers")
            self.assertEqual(workers, list(range(len(status["workers"]))))
            each = [ask(f"/sipward/workers,{number}") for number in workers]
            for name, value in counters.items():
                self.assertEqual(sum(worker[name] for worker in each), value, name)

    def test_a_worker_that_is_not_there_has_no_counters(self):
        with self.client() as ask:
            for words in ("2", "-1", "x", "0x", ""):
                self.assertIsNone(ask(f"/sipward/workers,{words}") if words else ask("/sipward/worker"))

    def test_dpdk_says_its_own_there(self):
        with self.client() as ask:
            self.assertIn("/sipward/counters", ask("/"))
            self.assertIn("/sipward/workers", ask("/"))
            (port,) = ask("/ethdev/list")
            self.assertEqual(ask(f"/ethdev/info,{port}")["name"], "net_af_packet0")

    def test_the_socket_is_roots_and_goes_with_the_daemon(self):
        self.assertEqual((self.path.stat().st_uid, self.path.parent.stat().st_mode & 0o077), (0, 0))
        self.assertEqual(self.daemon.stop()[0], 0)
        self.assertFalse(self.path.exists())

    def test_after_a_crash_the_next_one_has_the_same_socket(self):
        self.daemon.child.kill()
        self.daemon.child.wait()
        with Sipward(self.lab, self.program) as second:
            self.assertEqual(second.ask("status")["telemetry"], str(self.path))
            with self.client() as ask:
                self.assertEqual(ask("/sipward/workers"), [0])


if __name__ == "__main__":
    main()
