#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that speak with the daemon: status, blocks, block, unblock, flush; for people and for programs."""
import json
import socket
import stat

from lab import GATEWAY_V4, SERVER_V4
from lab.case import LabTest, main
from lab.network import wait_until

DONE, REFUSED, USAGE, NO_DAEMON = 0, 1, 2, 3


class Control(LabTest):
    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward(allow=["198.51.100.10"])

    def setUp(self):
        self.does("flush")

    def does(self, *words):
        done = self.daemon.command(*words)
        self.assertEqual(done.returncode, DONE, f"{words}: {done.stderr}")
        return done.stdout

    def refuses(self, *words, code=REFUSED):
        done = self.daemon.command(*words)
        self.assertEqual(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        return done.stderr

    def test_status_for_programs(self):
        status = self.daemon.ask("status")
        self.assertLessEqual({"received", "passed", "dropped", "verdicts", "sources", "blocks", "nft", "uptime_s", "mode", "lost"}, set(status))
        self.assertEqual(status["mode"], "monitor")
        self.assertIs(status["nft"]["in_sync"], True)

    def test_status_and_blocks_for_people(self):
        self.does("block", "198.51.100.66")
        self.assertIn("monitor", self.does("status"))
        self.assertIn("198.51.100.66", self.does("blocks"))
        self.assertNotIn("\x1b", self.does("status") + self.does("blocks"), "colours in a pipe")

    def test_a_block_by_hand(self):
        self.does("block", "198.51.100.66", "--for", "10m", "--reason", "called at night")
        self.assertTrue(self.daemon.holds("198.51.100.66", seconds=1))
        [block] = self.daemon.ask("blocks")
        self.assertEqual((block["subject"], block["kind"], block["reason"], block["action"]), ("198.51.100.66/32", "host", "manual", "block"))
        self.lab.attacks.flood("198.51.100.66", count=10, per_second=100)
        self.assertEqual(self.lab.reached("198.51.100.66"), 0)
        self.assertIsNotNone(self.daemon.logged("block", "198.51.100.66/32"))

    def test_a_network_by_hand(self):
        self.does("block", "203.0.113.0/24", "--for", "10m")
        self.assertTrue(self.daemon.holds("203.0.113.0", seconds=1, name="blocked_net_v4"))
        self.assertEqual([(block["subject"], block["kind"]) for block in self.daemon.ask("blocks")], [("203.0.113.0/24", "prefix")])
        self.lab.attacks.flood("203.0.113.67", count=10, per_second=100)
        self.assertEqual(self.lab.reached("203.0.113.67"), 0)

    def test_an_ipv6_host_by_hand(self):
        self.does("block", "2001:db8:66::66")
        self.assertEqual([block["subject"] for block in self.daemon.ask("blocks")], ["2001:db8:66::/64"])

    def test_unblock(self):
        self.does("block", "198.51.100.68")
        self.does("unblock", "198.51.100.68")
        self.assertTrue(wait_until(lambda: "198.51.100.68" not in self.daemon.in_set("blocked_v4"), 1))
        self.assertEqual(self.daemon.ask("blocks"), [])
        self.assertIsNotNone(self.daemon.logged("unblock", "198.51.100.68/32"))
        self.lab.attacks.flood("198.51.100.68", count=10, per_second=100)
        self.assertEqual(self.lab.reached("198.51.100.68"), 10)

    def test_unblock_spares_only_whom_it_names_and_a_block_by_hand_ends_that(self):
        self.does("block", "203.0.113.67", "--for", "7d")
        self.does("block", "203.0.113.0/24")
        self.does("unblock", "203.0.113.0/24")
        self.assertEqual([block["subject"] for block in self.daemon.ask("blocks")], ["203.0.113.67/32"])
        self.lab.attacks.flood("203.0.113.67", count=10, per_second=100)
        self.assertEqual(self.lab.reached("203.0.113.67"), 0, "its own block went with its network's")
        self.assertIn("203.0.113.0/24", [spared["subject"] for spared in self.daemon.ask("status")["immune"]])
        self.does("block", "203.0.113.0/24")
        self.assertNotIn("203.0.113.0/24", [spared["subject"] for spared in self.daemon.ask("status")["immune"]])

    def test_an_unblocked_host_is_let_through_its_blocked_network(self):
        self.does("block", "203.0.113.0/24")
        self.does("unblock", "203.0.113.68")
        self.lab.attacks.flood("203.0.113.68", count=10, per_second=100)
        self.assertEqual(self.lab.reached("203.0.113.68"), 10)
        self.assertEqual([block["subject"] for block in self.daemon.ask("blocks")], ["203.0.113.0/24"])

    def test_a_note_cannot_forge_a_line_or_carry_an_escape(self):
        self.does("block", "198.51.100.72", "--reason", "a\x1b]0;owned\a\n203.0.113.9/32  manual")
        self.assertEqual(len(self.does("blocks").splitlines()), 2)
        self.assertNotIn("\x1b", self.does("blocks") + "\n".join(self.daemon.log()))

    def test_unblock_of_nobody_says_so(self):
        self.assertIn("198.51.100.99", self.refuses("unblock", "198.51.100.99"))

    def test_flush(self):
        for subject in ("198.51.100.69", "203.0.113.0/24", "2001:db8:66::66"):
            self.does("block", subject)
        self.does("flush")
        self.assertEqual(self.daemon.ask("blocks"), [])
        for name in ("blocked_v4", "blocked_v6", "blocked_net_v4"):
            self.assertEqual(self.daemon.in_set(name), set())

    def test_whatever_is_done_is_also_told_to_programs(self):
        for words in (("block", "198.51.100.71"), ("unblock", "198.51.100.71"), ("flush",)):
            json.loads(self.does(*words, "--json"))

    def test_never_blocked_are_refused_with_the_reason(self):
        for subject in (SERVER_V4, GATEWAY_V4, "198.51.100.10", "198.51.100.0/24", "127.0.0.1", "224.0.0.1", "0.0.0.0/0"):
            self.refuses("block", subject)
        self.assertEqual(self.daemon.ask("blocks"), [])

    def test_nonsense_is_refused(self):
        for words in (("block", "not-an-address"), ("block", "198.51.100.300"), ("block", "198.51.100.1/33"), ("block", "198.51.100.1", "--for", "5 parsecs")):
            done = self.daemon.command(*words)
            self.assertIn(done.returncode, (REFUSED, USAGE), words)
            self.assertTrue(done.stderr.strip())

    def test_wrong_usage_is_exit_2(self):
        self.assertEqual(self.daemon.command("blokc").returncode, USAGE)
        self.assertEqual(self.daemon.command("block").returncode, USAGE)
        self.assertEqual(self.daemon.command("status", "--colour").returncode, USAGE)

    def test_no_daemon_there_is_exit_3_and_one_line(self):
        done = self.lab.run("edge", [self.program, "status", "--socket", self.lab.dir / "nobody.sock"], check=False)
        self.assertEqual((done.returncode, len(done.stderr.strip().splitlines())), (NO_DAEMON, 1))

    def test_every_command_explains_itself(self):
        for command in ("run", "check", "replay", "status", "blocks", "block", "unblock", "flush", "version"):
            done = self.lab.run("edge", [self.program, command, "--help"], check=False)
            self.assertEqual(done.returncode, DONE, command)
            self.assertIn(command, done.stdout)

    def test_the_socket_is_not_for_everyone(self):
        mode = (self.daemon.dir / "control.sock").stat().st_mode
        self.assertEqual(stat.S_IMODE(mode) & 0o007, 0)

    def test_a_hostile_client_does_no_harm(self):
        for noise in (b"{" * 200_000, b"\0" * 1000 + b"\n", b'{"command":"block"}\n', b"[" * 60_000 + b"\n", b'"\xff\xfe"\n'):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(self.daemon.dir / "control.sock"))
                try:
                    client.sendall(noise)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # shown the door, rightly
            self.does("status")

    def test_silent_clients_do_not_keep_others_out(self):
        silent = [socket.socket(socket.AF_UNIX) for _ in range(40)]
        try:
            for client in silent:
                client.settimeout(1)
                try:
                    client.connect(str(self.daemon.dir / "control.sock"))
                except (BlockingIOError, TimeoutError):
                    break
        finally:
            for client in silent:
                client.close()
        self.does("status")


if __name__ == "__main__":
    main()
