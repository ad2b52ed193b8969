#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the operator orders: blocks of every kind, with a net under them; and who is to be left alone."""

import re

from lab import SERVER_V4, Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main
from lab.network import wait_until


def spared(lab, address):
    """Does this address stand among the never-blocked, at the end of a range or by itself?"""
    return address in re.split(r"[\s,/\-]+", lab.run("edge", ["nft", "list", "set", "inet", "sipward", "never_blocked_v4"], check=False).stdout)


class Blocks(LabTest):
    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.sipward()

    def setUp(self):
        self.daemon.ask("flush")

    def reaches(self, source):
        before = self.lab.reached(source)
        self.lab.attacks.flood(source, count=5, per_second=100)
        return self.lab.reached(source) > before

    def answers(self, source):
        """Does the server answer a ping, which is no SIP?"""
        return self.lab.run("net", ["ping", "-c1", "-W1", "-I", source, SERVER_V4], check=False).returncode == 0

    def test_a_prefix_of_any_length(self):
        self.daemon.ask("block", "198.51.0.0/20", "--for", "10m")
        self.daemon.ask("block", "2001:db8:66::/56", "--for", "10m")
        self.assertTrue(self.daemon.holds("198.51.0.0", seconds=1, name="blocked_net_v4_20"))
        self.assertTrue(self.daemon.holds("2001:db8:66::", seconds=1, name="blocked_net_v6_56"))
        self.daemon.ask("block", "198.51.96.0/20", "--for", "10m")
        self.assertFalse(self.reaches("198.51.100.66"))
        self.daemon.ask("unblock", "198.51.96.0/20", "--immune", "1s")
        self.daemon.ask("unblock", "198.51.0.0/20", "--immune", "1s")
        self.assertEqual(self.daemon.in_set("blocked_net_v4_20"), set(), "the set went with its last element")

    def test_scope_all_takes_everything_and_its_end_gives_it_back(self):
        self.assertTrue(self.answers("198.51.100.66"))
        block = self.daemon.ask("block", "198.51.100.66", "--scope", "all")
        self.assertEqual(block["scope"], "all")
        self.assertTrue(self.daemon.holds("198.51.100.66", seconds=1, name="blocked_all_v4"))
        self.assertFalse(self.answers("198.51.100.66"))
        self.assertIsNotNone(self.daemon.logged("block", "198.51.100.66/32").get("scope"))
        self.daemon.ask("block", "198.51.100.66")  # the newer word counts: only SIP
        self.assertTrue(self.daemon.holds("198.51.100.66", seconds=1))
        self.assertEqual(self.daemon.in_set("blocked_all_v4"), set())
        self.assertTrue(self.answers("198.51.100.66"))

    def test_an_unconfirmed_block_ends_and_a_confirmed_one_stays(self):
        self.daemon.ask("block", "198.51.100.70", "--for", "1h", "--confirm", "2s")
        self.daemon.ask("block", "198.51.100.71", "--for", "1h", "--confirm", "2s")
        confirmed = self.daemon.ask("confirm", "198.51.100.71")
        self.assertEqual([block["subject"] for block in confirmed], ["198.51.100.71/32"])
        self.assertTrue(wait_until(lambda: not self.daemon.holds("198.51.100.70", seconds=0), 4))
        self.assertTrue(self.daemon.holds("198.51.100.71", seconds=0))
        self.assertEqual([block["subject"] for block in self.daemon.ask("blocks")], ["198.51.100.71/32"])
        self.assertTrue(any("unconfirmed subject=198.51.100.70/32" in line for line in self.daemon.log()))
        self.assertEqual(self.daemon.command("confirm").returncode, 1, "nothing waits any more")

    def test_what_stood_before_an_unconfirmed_block_comes_back(self):
        self.daemon.ask("block", "198.51.100.72", "--for", "1h", "--reason", "before")
        self.daemon.ask("block", "198.51.100.72", "--for", "1h", "--scope", "all", "--confirm", "1s")
        self.assertTrue(self.daemon.holds("198.51.100.72", seconds=1, name="blocked_all_v4"))
        self.assertTrue(wait_until(lambda: self.daemon.holds("198.51.100.72", seconds=0), 4))
        [block] = self.daemon.ask("blocks")
        self.assertEqual(block["evidence"]["note"], "before")


class Guards(LabTest):
    """Nobody is cut off from mending what he broke."""

    def test_a_resolver_is_blocked_by_force_only(self):
        with open("/etc/resolv.conf", encoding="ascii") as file:
            resolvers = [line.split()[1] for line in file if line.startswith("nameserver")]
        resolver = next((address for address in resolvers if ":" not in address and not address.startswith("127.")), None)
        if resolver is None:
            self.skipTest("this machine has no IPv4 resolver but itself")
        with Sipward(self.lab, self.program) as daemon:
            done = daemon.command("block", resolver)
            self.assertEqual(done.returncode, 1)
            self.assertIn("--force", done.stderr)
            self.assertTrue(spared(self.lab, resolver))
            done = daemon.command("block", resolver, "--force")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(daemon.holds(resolver, seconds=1))
            self.assertFalse(spared(self.lab, resolver))
            daemon.ask("unblock", resolver)
            self.assertTrue(wait_until(lambda: spared(self.lab, resolver), 2))

    def test_no_more_new_blocks_a_second_than_wanted(self):
        with Sipward(self.lab, self.program, block={"max_per_second": 5}, prefix={"offenders": 100}) as daemon:
            for host in range(40):
                self.lab.attacks.flood(f"198.18.20.{host + 1}", count=1, per_second=5000, user_agent=SCANNER)
            self.assertTrue(wait_until(lambda: any("alert - blocks_slowed" in line for line in daemon.log()), 5), daemon.log())
            self.assertGreater(len(daemon.ask("status")["limits"]), 0)


class Allow(LabTest):
    def scans(self, source):
        self.lab.attacks.flood(source, count=2, per_second=50, user_agent=SCANNER)

    def test_whoever_is_allowed_is_not_blocked_any_more_over_a_restart_too(self):
        with Sipward(self.lab, self.program) as first:
            self.scans("198.51.100.66")
            self.assertTrue(first.holds("198.51.100.66"))
            allowed = first.ask("allow", "198.51.100.66")
            self.assertIsNone(allowed["until"])
            self.assertTrue(wait_until(lambda: not first.holds("198.51.100.66", seconds=0), 2))
            self.assertEqual(first.logged("unblock", "198.51.100.66/32")["reason"], "never_blocked")
            first.ask("allow", "203.0.113.0/24", "--for", "7d")
            first.stop()
            with Sipward(self.lab, self.program, state={"path": str(first.state)}) as second:
                self.scans("198.51.100.66")
                self.assertFalse(second.holds("198.51.100.66", seconds=1))
                by_hand = {entry["subject"]: entry["until"] for entry in second.ask("allow") if entry["by"] == "command"}
                self.assertEqual(set(by_hand), {"198.51.100.66/32", "203.0.113.0/24"})
                self.assertIsNotNone(by_hand["203.0.113.0/24"])
                second.ask("allow", "198.51.100.66", "--end")
                self.scans("198.51.100.66")
                self.assertTrue(second.holds("198.51.100.66"))
                self.assertEqual(second.command("allow", "198.51.100.66", "--end").returncode, 1)
                self.assertEqual(second.command("allow", "0.0.0.0/0").returncode, 1)

    def test_an_allowance_ends(self):
        with Sipward(self.lab, self.program) as daemon:
            daemon.ask("allow", "198.51.100.67", "--for", "1s")
            self.assertTrue(wait_until(lambda: daemon.ask("allow") == [], 4))
            self.scans("198.51.100.67")
            self.assertTrue(daemon.holds("198.51.100.67"))

    def test_immunity_outlasts_a_restart(self):
        with Sipward(self.lab, self.program) as first:
            self.scans("198.51.100.68")
            self.assertTrue(first.holds("198.51.100.68"))
            first.ask("unblock", "198.51.100.68", "--immune", "1h")
            first.stop()
            with Sipward(self.lab, self.program, state={"path": str(first.state)}) as second:
                self.assertEqual([spared["subject"] for spared in second.ask("status")["immune"]], ["198.51.100.68/32"])
                self.scans("198.51.100.68")
                self.assertFalse(second.holds("198.51.100.68", seconds=1))

    def test_an_allowed_address_with_a_limit_is_dropped_above_it_and_never_blocked(self):
        with Sipward(self.lab, self.program, allow=[{"address": "198.18.20.0/26", "limit": "50/s"}, "198.18.20.100"]) as daemon:
            for source, count in (("198.18.20.10", 6000), ("198.18.20.100", 2000)):
                self.lab.attacks.flood(source, count=count, per_second=3000, user_agent=SCANNER)
            self.assertTrue(wait_until(lambda: daemon.logged("limit", "198.18.20.10/32"), 5), daemon.log())
            self.assertEqual(daemon.logged("limit", "198.18.20.10/32")["to"], "50.0/s")
            # Ten seconds' worth until it is noticed, and once more until the kernel has counted so much.
            self.assertLess(self.lab.reached("198.18.20.10"), 1500)
            self.assertGreater(self.lab.reached("198.18.20.10"), 500)
            self.assertEqual(self.lab.reached("198.18.20.100"), 2000)
            self.assertEqual(daemon.ask("blocks"), [])
            self.assertEqual([limit["subject"] for limit in daemon.ask("status")["limits"]], ["198.18.20.10/32"])
            checked = self.lab.run("edge", [self.program, "check", "--config", daemon.settings], check=False)
            self.assertEqual(checked.returncode, 0)
            self.assertIn("allowed without a limit: 198.18.20.100/32;", checked.stderr)
            self.assertIn("{address: 198.18.20.0/26, limit: 50/s}", checked.stdout)

    def test_lists_beside_the_settings_and_a_change_of_them(self):
        """OPERATORS.md 22; names that a resolver knows: tests/allow_book_test.cpp."""
        carriers = self.lab.dir / "carriers.list"
        carriers.write_text("198.51.100.90  # the trunk\n")
        with Sipward(self.lab, self.program, allow=[f"file:{carriers}"]) as daemon:
            self.assertTrue(wait_until(lambda: spared(self.lab, "198.51.100.90"), 5))
            self.scans("198.51.100.91")
            self.assertTrue(daemon.holds("198.51.100.91"))
            carriers.write_text("198.51.100.90\n198.51.100.91\n")
            self.assertTrue(wait_until(lambda: not daemon.holds("198.51.100.91", seconds=0), 12))
            carriers.write_text("198.51.100.90\nnonsense!\n")
            self.assertTrue(wait_until(lambda: "carriers.list:2:1" in daemon.output(), 12), daemon.output())
            self.assertTrue(spared(self.lab, "198.51.100.90"), "what was read before stays")
            folder = daemon.dir / "allow.d"
            folder.mkdir()
            (folder / "office.yaml").write_text("allow: [203.0.113.99]\n")
            self.assertTrue(wait_until(lambda: spared(self.lab, "203.0.113.99"), 12))


if __name__ == "__main__":
    main()
