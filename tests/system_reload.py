#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A new settings file while packets flow: what changes at once, what waits for a restart, and that nothing is lost by it.

SIPWARD_RELOAD_PPS sets how many packets a second (4000; by hand 100000, on a machine that does nothing else)."""
import json
import os
import signal
import socket
import threading
import time

from lab import GATEWAY_V4, SERVER_V4, SERVER_V6, Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main, measured
from lab.network import wait_until
from lab.sipward import settings

SOL_UDP, UDP_SEGMENT = 17, 103
KEEPALIVE = b"\r\n\r\n"  # costs the server next to nothing
TRAIN = 32  # datagrams that the kernel makes of one call
RELOADS = 50
PER_SECOND = int(os.environ.get("SIPWARD_RELOAD_PPS", "4000"))


class ReloadTest(LabTest):
    def setUp(self):
        self.changes = {}
        self.daemon = Sipward(self.lab, self.program, **self.start)
        self.addCleanup(self.daemon.__exit__)

    start = {}

    def write(self, **changes):
        """The daemon's settings file, as it was at the start but for this."""
        merged = dict(self.start)
        for key, value in changes.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
        self.daemon.settings.write_text(settings(self.daemon.dir, merged))

    def reload(self, **changes):
        self.write(**changes)
        done = self.daemon.command("reload", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def scan(self, source, count=2, user_agent=SCANNER, port=5060):
        with self.lab.attacks.socket(source) as sender:
            for _ in range(count):
                sender.sendto(self.lab.attacks.request(source, user_agent), (SERVER_V4, port))
                time.sleep(0.02)

    def blocks(self):
        return {block["subject"]: block for block in self.daemon.ask("blocks")}


class Reload(ReloadTest):
    def test_a_bad_file_is_refused_with_its_place_and_the_old_rules_run_on(self):
        self.write()
        with self.daemon.settings.open("a") as file:
            file.write("nonsense: 1\n")
        line = len(self.daemon.settings.read_text().splitlines())
        done = self.daemon.command("reload")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1)
        self.assertIn(f"{self.daemon.settings}:{line}:1: ", done.stderr)
        self.assertTrue(any("alert - reload_refused why=" in entry for entry in self.daemon.log()), self.daemon.log())
        self.scan("198.51.100.66")
        self.assertTrue(self.daemon.holds("198.51.100.66"))
        self.daemon.settings.unlink()
        self.assertEqual(self.daemon.command("reload").returncode, 1)
        self.assertIs(self.daemon.ask("status")["nft"]["in_sync"], True)

    def test_whoever_is_allowed_now_is_not_blocked_any_more_and_that_is_said(self):
        for source in ("198.51.100.66", "198.51.100.67"):
            self.scan(source)
            self.assertTrue(self.daemon.holds(source))
        done = self.reload(allow=["198.51.100.66"])
        self.assertEqual((done["changed"], done["for_restart"], done["lifted"]), (["allow"], [], ["198.51.100.66/32"]))
        self.assertEqual(self.daemon.in_set("blocked_v4"), {"198.51.100.67"})
        self.assertTrue(wait_until(lambda: self.daemon.logged("unblock", "198.51.100.66/32"), 5))
        self.assertEqual(self.daemon.logged("unblock", "198.51.100.66/32")["reason"], "never_blocked")
        before = self.lab.reached("198.51.100.66")
        self.lab.attacks.flood("198.51.100.66", count=50, per_second=500, user_agent=SCANNER)
        self.assertEqual(self.lab.reached("198.51.100.66") - before, 50)

    def test_what_needs_a_restart_is_named_and_the_rest_comes_into_force(self):
        done = self.reload(sources={"capacity": 4096}, idle="busy", scanners={"user_agents": ["wolf*"]}, state={"path": f"{self.daemon.dir}/other.db"})
        self.assertEqual(done["changed"], ["scanners.user_agents"])
        self.assertEqual(done["for_restart"], ["idle", "sources.capacity", "state.path"])
        self.assertIn("wait for a restart: idle, sources.capacity, state.path", self.daemon.output())
        self.assertEqual(self.daemon.ask("status")["source_table"]["capacity"], 262144)
        self.scan("198.51.100.70", user_agent="wolf 1.0")
        self.assertTrue(self.daemon.holds("198.51.100.70"))

    def test_thresholds(self):
        self.lab.attacks.flood("198.51.100.71", count=30, per_second=1000)
        self.assertEqual(self.blocks(), {})
        self.reload(detect={"register_flood": {"rate": "1/s", "burst": 5, "action": "block"}})
        self.lab.attacks.flood("198.51.100.72", count=30, per_second=200)
        self.assertTrue(self.daemon.holds("198.51.100.72"))
        self.assertEqual(self.blocks()["198.51.100.72/32"]["evidence"]["limit_per_s"], 1)

    def test_sip_ports(self):
        self.scan("198.51.100.73", port=5062)
        self.assertEqual(self.blocks(), {})
        self.reload(sip={"ports": [5060, 5062], "servers": [SERVER_V4, SERVER_V6]})
        self.scan("198.51.100.74", port=5062)
        self.assertTrue(self.daemon.holds("198.51.100.74"))
        self.assertLessEqual({"5060", "5061", "5062"}, {str(port) for port in self.daemon.in_set("sip_ports")})

    def test_another_table_keeps_blocks_and_counts(self):
        self.scan("198.51.100.75")
        self.assertTrue(self.daemon.holds("198.51.100.75"))
        self.lab.attacks.flood("198.51.100.75", count=40, per_second=1000)
        dropped = self.blocks()["198.51.100.75/32"]["packets_dropped"]
        self.assertGreaterEqual(dropped, 40)
        until = self.blocks()["198.51.100.75/32"]["until"]
        self.reload(nftables={"hook": "prerouting", "scope": "all", "on_stop": "remove"}, prefix={"ipv4": 25})
        listed = self.lab.run("edge", ["nft", "list", "table", "inet", "sipward"]).stdout
        self.assertNotIn("hook ingress", listed)
        self.assertEqual(self.daemon.in_set("blocked_v4"), {"198.51.100.75"})
        self.lab.attacks.flood("198.51.100.75", count=40, per_second=1000)
        after = self.blocks()["198.51.100.75/32"]
        self.assertGreaterEqual(after["packets_dropped"], dropped + 40)
        self.assertEqual(after["until"], until)

    def test_a_dry_run_begins_and_ends(self):
        self.scan("198.51.100.76")
        self.assertTrue(self.daemon.holds("198.51.100.76"))
        self.reload(block={"dry_run": True})
        self.assertEqual(self.daemon.in_set("blocked_v4"), set())
        self.assertEqual(self.blocks()["198.51.100.76/32"]["action"], "would_block")
        self.assertTrue(wait_until(lambda: self.daemon.logged("would_block", "198.51.100.76/32"), 5))
        self.assertEqual(self.daemon.logged("unblock", "198.51.100.76/32")["reason"], "dry_run")
        self.reload()
        self.assertEqual(self.daemon.in_set("blocked_v4"), set())
        time.sleep(1.1)  # a source's offence is told once a second
        self.scan("198.51.100.76")
        self.assertTrue(self.daemon.holds("198.51.100.76"))

    def test_another_log(self):
        self.reload(log={"file": f"{self.daemon.dir}/other.log", "format": "json"})
        self.scan("198.51.100.77")
        self.assertTrue(self.daemon.holds("198.51.100.77"))
        other = self.daemon.dir / "other.log"
        self.assertTrue(wait_until(lambda: any(json.loads(line).get("subject") == "198.51.100.77/32" for line in other.read_text().splitlines()), 5))
        done = self.daemon.command("status")
        self.assertEqual(done.returncode, 0)
        self.write(log={"file": "/nonexistent/folder/block.log"})
        self.assertIn("log.file", self.daemon.command("reload").stderr)

    def test_a_hangup_signal_does_the_same(self):
        self.write(scanners={"user_agents": ["hyena*"]})
        self.daemon.child.send_signal(signal.SIGHUP)
        self.assertTrue(wait_until(lambda: any("alert - reloaded changed=scanners.user_agents" in line for line in self.daemon.log()), 5), self.daemon.log())
        self.scan("198.51.100.78", user_agent="hyena")
        self.assertTrue(self.daemon.holds("198.51.100.78"))


class Notify(LabTest):
    def test_the_service_manager_hears_of_a_reload_and_of_its_end(self):
        path = self.lab.dir / "notify.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(path))
            manager.settimeout(10)
            os.environ["NOTIFY_SOCKET"] = str(path)
            try:
                daemon = Sipward(self.lab, self.program)
            finally:
                del os.environ["NOTIFY_SOCKET"]
            self.addCleanup(daemon.__exit__)
            self.await_word(manager, "READY=1")
            self.assertEqual(daemon.command("reload").returncode, 0)
            self.assertIn("MONOTONIC_USEC=", self.await_word(manager, "RELOADING=1"))
            self.await_word(manager, "READY=1")

    def await_word(self, manager, word):
        while word not in (said := manager.recv(4096).decode()).splitlines():
            pass
        return said


class Sender(threading.Thread):
    """Keepalives at an even pace, in trains, until `stop`; it counts them."""

    def __init__(self, bound, per_second=PER_SECOND):
        super().__init__(daemon=True)
        self.socket, self.per_second = bound, per_second
        self.socket.setsockopt(SOL_UDP, UDP_SEGMENT, len(KEEPALIVE))
        self.sent, self.stopped = 0, threading.Event()

    def run(self):
        start = time.monotonic()
        while not self.stopped.is_set():
            ahead = start + self.sent / self.per_second - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            try:
                self.socket.sendto(KEEPALIVE * TRAIN, (SERVER_V4, 5060))
            except OSError:  # older kernels make no trains without the device's help
                self.socket.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
                for _ in range(TRAIN):
                    self.socket.sendto(KEEPALIVE, (SERVER_V4, 5060))
            self.sent += TRAIN

    def stop(self):
        self.stopped.set()
        self.join()
        self.socket.close()
        return self.sent


class NothingLost(ReloadTest):
    """Packets of an allowed address are counted as they are sent, as a worker judges them, and as they reach the server's socket; those of a
    blocked one as they are sent, and not one reaches it. First for a while without reloads, for comparison, and then with them."""
    SOURCE, BLOCKED = "198.51.100.20", "198.51.100.66"
    start = {"allow": [SOURCE]}

    def while_sending(self, act):
        """What became of the packets that were sent while `act` was done: by whom, how many, how many a second."""
        before, reached = self.daemon.ask("status"), {source: self.lab.reached(source) for source in (self.SOURCE, self.BLOCKED)}
        sender, blocked = Sender(self.lab.attacks.socket(self.SOURCE)), Sender(self.lab.attacks.socket(self.BLOCKED), 500)
        began = time.monotonic()
        sender.start()
        blocked.start()
        try:
            act()
        finally:
            sent, held = sender.stop(), blocked.stop()
        seconds = time.monotonic() - began
        wait_until(lambda: self.lab.reached(self.SOURCE) - reached[self.SOURCE] >= sent, 5)
        wait_until(lambda: (seen := self.counted(before))["judged"] >= sent and seen["dropped"] >= held, 2)
        self.assertEqual(self.lab.reached(self.SOURCE) - reached[self.SOURCE], sent, f"packets were lost or doubled: {self.counted(before)}")
        self.assertEqual(self.lab.reached(self.BLOCKED), reached[self.BLOCKED], f"a gap in the blocks: of {held} packets some came through")
        return {"sent": sent, "held": held, "per_second": sent / seconds, **self.counted(before)}

    def counted(self, before):
        """What the workers say since then: keepalives judged, blocked ones dropped, and what came too fast for them."""
        after = self.daemon.ask("status")
        self.assertEqual(after["received"], after["passed"] + after["dropped"])
        self.assertEqual(after["received"], sum(after["verdicts"].values()))
        since = {name: after["verdicts"][name] - before["verdicts"][name] for name in after["verdicts"]}
        return {"judged": since["keepalive"] + since["never_blocked"], "dropped": since["blocked"], "unread": after["lost"]["rx"] - before["lost"]["rx"],
                "offences": after["lost"]["offences"] - before["lost"]["offences"]}

    def reload_again_and_again(self, mode):
        self.scan(self.BLOCKED)
        self.assertTrue(self.daemon.holds(self.BLOCKED))
        times = []

        def reload_all():
            for i in range(RELOADS):
                start = time.monotonic()
                done = self.reload(detect={"register_flood": {"rate": f"{10 + i % 2}/s", "burst": 75, "action": "block"}},
                                   nftables={"scope": "all" if i % 2 else "sip", "on_stop": "remove"},
                                   scanners={"user_agents": [f"wolf{i}*"]}, prefix={"ipv4": 24 + i % 2})
                times.append(time.monotonic() - start)
                self.assertIn("scanners.user_agents", done["changed"])

        quiet = self.while_sending(lambda: time.sleep(3))
        with_reloads = self.while_sending(reload_all)
        for seen in (quiet, with_reloads):
            self.assertEqual(seen["offences"], 0)
            self.assertLessEqual(seen["sent"] + seen["held"] - seen["judged"] - seen["dropped"], seen["unread"], f"neither judged nor counted as lost: {seen}")
            if not seen["unread"]:
                self.assertEqual((seen["judged"], seen["dropped"]), (seen["sent"], seen["held"]), seen)
        # What comes too fast to be read on a busy machine is no loss by reloading: as many come too fast without.
        unread = [seen["unread"] / (seen["sent"] + seen["held"]) for seen in (quiet, with_reloads)]
        self.assertLessEqual(unread[1], 2 * unread[0] + 0.001, (quiet, with_reloads))
        self.assertIn(f"{self.BLOCKED}/32", self.blocks())
        self.assertEqual(self.daemon.in_set("blocked_v4"), {self.BLOCKED})
        measured(f"{mode}: {RELOADS} reloads under {with_reloads['per_second']:.0f} packets/s, {with_reloads['sent']} sent, none lost, "
                 f"{with_reloads['sent'] + with_reloads['held'] - with_reloads['judged'] - with_reloads['dropped']} not judged "
                 f"({quiet['sent'] + quiet['held'] - quiet['judged'] - quiet['dropped']} of {quiet['sent'] + quiet['held']} without reloads), "
                 f"{with_reloads['held']} of a blocked source, none through; "
                 f"the command took {1000 * sorted(times)[len(times) // 2]:.0f} ms (median), {1000 * max(times):.0f} ms at most, its start included")

    def test_in_monitor_mode(self):
        with self.honest_phones():
            self.reload_again_and_again("monitor")


class NothingLostInline(NothingLost):
    start = {**NothingLost.start, "mode": "inline", "ports": {"outside": "eth1", "inside": "tap:sip0"}}
    test_in_monitor_mode = None

    def setUp(self):
        self.lab.run("edge", "ip addr flush dev eth1".split())
        self.addCleanup(self.addresses_on, "eth1")
        super().setUp()
        self.addresses_on("sip0")

    def addresses_on(self, device):
        for words in (f"ip addr replace {SERVER_V4}/24 dev {device}", f"ip addr replace {SERVER_V6}/64 dev {device} nodad",
                      f"ip route replace default via {GATEWAY_V4}"):
            self.lab.run("edge", words.split())
        self.lab.run("net", "ip neigh flush all".split())

    def test_inline(self):
        self.assertTrue(wait_until(lambda: self.lab.run("net", f"ping -q -c 1 -W 1 {SERVER_V4}".split(), check=False).returncode == 0, 10))
        taken = self.taken()
        self.reload_again_and_again("inline")
        self.assertEqual(self.taken(), taken, "while a chain takes another's place a packet may pass both")

    def taken(self):
        """What keeps the kernel from hearing eth1, with the numbers that the kernel gave it."""
        return self.lab.run("edge", "nft --handle list table netdev sipward".split()).stdout


if __name__ == "__main__":
    main()
