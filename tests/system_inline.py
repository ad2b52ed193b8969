#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Inline: a bump in the wire, through which everything passes as it came, but for what is convicted."""
import contextlib
import os
import re
import signal
import socket
import struct
import threading
import time

from lab import GATEWAY_V4, GATEWAY_V6, SERVER_V4, SERVER_V6, Phones, Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main
from lab.network import run, wait_until

ETH_P_ALL = 3
OWN_ETHERTYPE = 0x88B5  # for local experiments (IEEE 802)
SOL_PACKET, PACKET_AUXDATA, SO_RCVBUFFORCE = 263, 8, 33
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6
OFFLOADS = ("generic-receive-offload", "tcp-segmentation-offload", "generic-segmentation-offload", "large-receive-offload")
NETDEV = ["nft", "list", "table", "netdev", "sipward"]


class Inline(LabTest):
    """sipward between eth1 and sip0; the server's addresses stand on sip0 for as long as a test runs."""

    def bare_interface(self):
        """eth1 without the server's addresses, and as most hosts have it: joining what it receives."""
        self.edge("ip addr flush dev eth1")
        self.edge("ethtool -K eth1 gro on")
        self.addCleanup(self.addresses_on, "eth1")

    def inline(self, **changes):
        daemon = Sipward(self.lab, self.program, **{"mode": "inline", "ports": {"inside": "tap:sip0"}, **changes})
        self.addCleanup(daemon.__exit__)
        return daemon

    def started(self, **changes):
        self.bare_interface()
        daemon = self.inline(**changes)
        self.addresses_on("sip0")
        return daemon

    def edge(self, command, **options):
        return self.lab.run("edge", command.split(), **options)

    def net(self, command, **options):
        return self.lab.run("net", command.split(), **options)

    def addresses_on(self, device):
        self.edge(f"ip addr replace {SERVER_V4}/24 dev {device}")
        self.edge(f"ip addr replace {SERVER_V6}/64 dev {device} nodad")
        self.edge(f"ip route replace default via {GATEWAY_V4}")
        self.edge(f"ip -6 route replace default via {GATEWAY_V6}")
        self.net("ip neigh flush all")

    def assert_pings(self, address=SERVER_V4, size=56, count=50, side="net"):
        words = f"ping -q -c {count} -i 0.01 -W 1 -s {size} {address}"
        said = self.lab.run(side, words.split(), check=False).stdout
        self.assertIn(f"{count} received", said, f"`{words}`")
        self.assertNotIn("duplicates", said)

    def ping_answers(self, seconds):
        return wait_until(lambda: self.net(f"ping -q -c 1 -W 1 {SERVER_V4}", check=False).returncode == 0, seconds)

    def assert_algebra(self, daemon):
        status = daemon.ask("status")
        self.assertEqual(status["received"], status["passed"] + status["dropped"])
        self.assertEqual(status["received"], sum(status["verdicts"].values()))
        return status

    def offloads(self, device="eth1"):
        said = self.edge(f"ethtool -k {device}").stdout
        return {name: re.search(rf"^{name}: (\w+)", said, re.M)[1] for name in OFFLOADS}

    def netdev_table(self):
        return self.lab.run("edge", NETDEV, check=False).returncode == 0

    def mac(self, device):
        return re.search(r"link/ether (\S+)", self.edge(f"ip link show {device}").stdout)[1]

    def carrier(self, device="sip0"):
        return "LOWER_UP" in self.edge(f"ip link show {device}").stdout

    def transfer(self, octets, source, sink, address):
        """Sends so many octets over TCP from one side to an address of the other; how many came."""
        with self.lab.here(sink):
            listener = socket.create_server((address, 8080), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        received = []

        def take():
            connection, _ = listener.accept()
            with connection:
                received.append(sum(iter(lambda: len(connection.recv(1 << 16)), 0)))

        taker = threading.Thread(target=take, daemon=True)
        taker.start()
        with listener, self.lab.here(source):
            sender = socket.create_connection((address, 8080), timeout=10)
        with sender:
            sender.settimeout(20)
            sender.sendall(bytes(octets))
            sender.shutdown(socket.SHUT_WR)
            taker.join(20)
        return received[0] if received else 0

    def wire(self, side, device):
        """A packet socket that sends whole frames, and hears them with the VLAN tag that the kernel took off."""
        with self.lab.here(side):
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.addCleanup(wire.close)
        wire.bind((device, ETH_P_ALL))
        wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        wire.settimeout(0.5)
        return wire

    @staticmethod
    def heard(wire, marker):
        """The frames with these octets in them, as they were on the wire, until there are none for half a second."""
        frames = []
        with contextlib.suppress(TimeoutError):
            while True:
                octets, ancillary, _, address = wire.recvmsg(1 << 16, 256)
                if marker not in octets or address[2] == socket.PACKET_OUTGOING:
                    continue
                for _, _, data in ancillary:
                    status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
                    if status & TP_STATUS_VLAN_VALID:
                        tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                        octets = octets[:12] + struct.pack("!HH", tpid, tci) + octets[12:]
                frames.append(octets)
        return frames


class Forwarding(Inline):
    def setUp(self):
        self.daemon = self.started()

    def tearDown(self):
        self.assert_algebra(self.daemon)

    def test_ping_of_every_size_both_ways(self):
        for size in (0, 56, 1400, 1472):
            self.assert_pings(size=size)
            self.assert_pings(size=size, address=GATEWAY_V4, side="edge")
        self.assert_pings(address=SERVER_V6, size=1400)

    def test_fragments_pass_as_they_came(self):
        wire = self.wire("edge", "sip0")
        self.assert_pings(size=4000)
        self.assert_pings(size=4000, address=SERVER_V6)
        self.assert_pings(size=4000, address=GATEWAY_V4, side="edge")
        longest = max(len(frame) for frame in self.heard(wire, bytes(range(0x40, 0x60))))
        self.assertEqual(longest, 1514)
        self.assertGreater(self.assert_algebra(self.daemon)["verdicts"]["fragment"], 0)

    def test_20_mb_over_tcp_both_ways(self):
        self.assertEqual(self.transfer(20_000_000, "net", "edge", SERVER_V4), 20_000_000)
        self.assertEqual(self.transfer(20_000_000, "edge", "net", GATEWAY_V4), 20_000_000)
        self.assertEqual(self.transfer(2_000_000, "net", "edge", SERVER_V6), 2_000_000)

    def test_neighbours_find_each_other(self):
        """ARP, and IPv6's neighbour discovery, which goes to multicast addresses."""
        for side in ("net", "edge"):
            self.lab.run(side, ["ip", "neigh", "flush", "all"])
            self.lab.run(side, ["ip", "-6", "neigh", "flush", "all"])
        self.assert_pings(count=1)
        self.assert_pings(count=1, address=SERVER_V6)
        self.assertGreater(self.daemon.ask("status")["verdicts"]["not_ip"], 0)

    def test_half_made_checksums_are_completed(self):
        self.net("ethtool -K o0 tx on tso off gso off")
        self.addCleanup(self.net, "ethtool -K o0 tx off gso on")
        self.assertEqual(self.transfer(1_000_000, "net", "edge", SERVER_V4), 1_000_000)
        self.assertEqual(self.transfer(1_000_000, "net", "edge", SERVER_V6), 1_000_000)
        self.lab.attacks.flood("198.51.100.10", count=20, per_second=200)
        self.assertEqual(self.lab.reached("198.51.100.10"), 20)

    def test_frames_of_any_kind_pass_untouched_and_in_order(self):
        for near, far in ((("net", "o0"), ("edge", "sip0")), (("edge", "sip0"), ("net", "o0"))):
            marker = os.urandom(8)
            sender, listener = self.wire(*near), self.wire(*far)
            sent = []
            for number in range(400):
                frame = bytes.fromhex("ffffffffffff 020000000001") + struct.pack("!H", OWN_ETHERTYPE) + marker + number.to_bytes(4, "big")
                sent.append(frame + bytes(number * 3))
                sender.send(sent[-1])
            self.assertEqual(self.heard(listener, marker), sent)

    def test_a_vlan_tag_passes(self):
        for near, far in ((("net", "o0"), ("edge", "sip0")), (("edge", "sip0"), ("net", "o0"))):
            marker = os.urandom(8)
            sender, listener = self.wire(*near), self.wire(*far)
            tag, second = struct.pack("!HH", 0x8100, 0x6007), struct.pack("!HH", 0x8100, 7)
            macs, rest = bytes.fromhex("ffffffffffff 020000000001"), struct.pack("!H", OWN_ETHERTYPE) + marker + bytes(50)
            sent = [macs + tag + rest, macs + tag + second + rest, macs + tag + rest + bytes(1500 - 50 - 8)]
            for frame in sent:
                sender.send(frame)
            self.assertEqual(self.heard(listener, marker), sent)

    def test_a_tagged_scanner_is_dropped(self):
        marker = os.urandom(8).hex()
        listener = self.wire("edge", "sip0")
        request = self.lab.attacks.request("198.18.11.1", SCANNER) + marker.encode()
        udp = struct.pack("!HHHH", 5060, 5060, 8 + len(request), 0) + request
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton("198.18.11.1"), socket.inet_aton(SERVER_V4))
        self.lab.attacks.frame(bytes.fromhex("ffffffffffff 020000000001 8100 0007 0800") + ip + udp)
        self.assertTrue(self.daemon.holds("198.18.11.1"))
        self.assertEqual(self.heard(listener, marker.encode()), [])

    def test_phones_register_and_scanners_do_not_arrive_at_all(self):
        with self.honest_phones():
            self.lab.attacks.flood("198.51.100.66", count=300, per_second=500, user_agent=SCANNER)
            self.assertEqual((self.lab.sent("198.51.100.66"), self.lab.reached("198.51.100.66")), (300, 0))
        self.assertTrue(self.daemon.holds("198.51.100.66"))
        status = self.assert_algebra(self.daemon)
        self.assertEqual(status["verdicts"]["scanner"] + status["verdicts"]["blocked"], 300)
        self.assertGreater(status["verdicts"]["answer"], 0)
        self.assertEqual(status["dropped"], 300)

    def test_a_flood_reaches_the_server_up_to_its_limit(self):
        self.lab.attacks.flood("198.51.100.67", count=500, per_second=1000)
        self.assertIn(self.lab.reached("198.51.100.67"), range(75, 82))

    def test_the_kernel_hears_nothing_by_its_own_way(self):
        self.edge("nft add table inet ways")
        self.addCleanup(self.edge, "nft delete table inet ways")
        self.edge("nft add chain inet ways pre { type filter hook prerouting priority 0 ; }")
        self.edge("nft add rule inet ways pre iifname eth1 counter")
        self.assert_pings()
        self.assertIn("counter packets 0 ", self.edge("nft list table inet ways").stdout)

    def test_only_the_chains_that_inline_needs(self):
        chains = set(re.findall(r"chain (\w+)", self.edge("nft list table inet sipward").stdout))
        self.assertEqual(chains, {"prerouting", "output"})


class Nobody(Inline):
    def test_without_named_servers_all_inside_are_protected(self):
        daemon = self.started(sip={"servers": []})
        self.lab.attacks.flood("198.51.100.70", count=20, per_second=200, user_agent=SCANNER)
        self.assertEqual(self.lab.reached("198.51.100.70"), 0)
        self.assertEqual(Phones(self.lab, ["203.0.113.40"], rate=10, count=3).wait(), (3, 0))
        self.assertGreater(self.assert_algebra(daemon)["verdicts"]["answer"], 0)

    def test_a_dry_run_drops_nothing(self):
        daemon = self.started(block={"dry_run": True})
        self.lab.attacks.flood("198.51.100.71", count=20, per_second=200, user_agent=SCANNER)
        self.assertEqual(self.lab.reached("198.51.100.71"), 20)
        self.assertEqual(self.assert_algebra(daemon)["dropped"], 0)


class Life(Inline):
    def test_what_was_changed_is_put_back_on_stop(self):
        self.bare_interface()
        before = self.offloads()
        daemon = self.inline()
        self.assertEqual((self.offloads()["generic-receive-offload"], self.netdev_table()), ("off", True))
        self.assertEqual(self.mac("sip0"), self.mac("eth1"), "switches and clouds let no other address pass")
        self.assertEqual(daemon.stop()[0], 0, daemon.output())
        self.assertEqual(self.offloads(), before)
        self.assertFalse(self.netdev_table())
        self.assertNotIn("sip0", self.edge("ip link").stdout)
        self.assertNotIn("promiscuity 1", self.edge("ip -d link show eth1").stdout)

    def test_after_a_crash_nothing_passes_until_the_next_start_which_takes_everything_over(self):
        self.bare_interface()
        before = self.offloads()
        first = self.inline()
        mac = self.mac("sip0")
        self.addresses_on("sip0")
        self.assert_pings()
        first.child.send_signal(signal.SIGKILL)
        first.child.wait()
        self.assertTrue(self.netdev_table(), "the kernel would answer unprotected")
        second = self.inline()
        self.assertEqual(self.mac("sip0"), mac, "neighbours would look for the old one")
        self.addresses_on("sip0")
        self.assert_pings()
        self.assertEqual(second.stop()[0], 0, second.output())
        self.assertFalse(self.netdev_table())
        self.assertEqual(self.offloads(), before)

    def test_a_sip0_made_beforehand_keeps_its_addresses_and_routes_over_a_crash(self):
        self.bare_interface()
        self.edge("ip tuntap add dev sip0 mode tap multi_queue pi")
        self.addCleanup(self.edge, "ip link del sip0")
        self.edge("ip link set sip0 up")
        self.addresses_on("sip0")
        first = self.inline()
        self.assertTrue(self.ping_answers(3))
        first.child.send_signal(signal.SIGKILL)
        first.child.wait()
        second = self.inline()
        self.assertTrue(self.ping_answers(3))
        self.assertIn("default via", self.edge("ip route show dev sip0").stdout)
        self.assert_pings(address=SERVER_V6)
        second.stop()

    def test_monitor_after_a_crash_gives_the_interface_back(self):
        self.bare_interface()
        before = self.offloads()
        crashed = self.inline()
        crashed.child.send_signal(signal.SIGKILL)
        crashed.child.wait()
        self.addresses_on("eth1")
        with Sipward(self.lab, self.program):
            self.assertFalse(self.netdev_table())
            self.assert_pings()
        self.assertEqual(self.offloads(), before)

    def test_the_wire_goes_and_comes_back(self):
        daemon = self.started()
        self.assert_pings()
        self.net("ip link set o0 down")
        self.assertTrue(wait_until(lambda: not self.carrier(), 3), "sip0 still shows a link")
        self.net("ip link set o0 up")
        self.net(f"ip -6 addr replace {GATEWAY_V6}/64 dev o0 nodad")
        self.assertTrue(wait_until(self.carrier, 3), "sip0 shows no link")
        self.assertTrue(self.ping_answers(5))
        self.edge("ip link set eth1 down")
        time.sleep(0.5)
        self.edge("ip link set eth1 up")
        self.assertTrue(self.ping_answers(5))
        self.edge("ip link set sip0 down")
        self.net(f"ping -q -c 5 -i 0.01 -W 1 {SERVER_V4}", check=False)
        self.edge("ip link set sip0 up")
        self.assertTrue(self.ping_answers(5))
        self.assertGreater(self.assert_algebra(daemon)["verdicts"]["transmit_full"], 0)

    def test_a_great_mtu_is_sip0s_too(self):
        self.net("ip link set o0 mtu 9000")
        self.edge("ip link set eth1 mtu 9000")
        self.addCleanup(self.net, "ip link set o0 mtu 1500")
        self.addCleanup(self.edge, "ip link set eth1 mtu 1500")
        daemon = self.started(memory={"size": "256 MiB"})
        self.assertIn("mtu 9000", self.edge("ip link show sip0").stdout)
        self.assert_pings(size=8900)
        self.assertEqual(self.transfer(20_000_000, "net", "edge", SERVER_V4), 20_000_000)
        self.assertEqual(self.assert_algebra(daemon)["verdicts"]["too_long"], 0)

    def test_frames_that_cannot_leave_are_counted_and_stop_nobody(self):
        self.net("ip link set o0 mtu 9000")
        self.addCleanup(self.net, "ip link set o0 mtu 1500")
        daemon = self.started()
        self.edge("ip link set eth1 mtu 9000")  # later than the ring was made
        self.addCleanup(self.edge, "ip link set eth1 mtu 1500")
        self.net(f"ping -q -c 10 -i 0.01 -W 1 -s 6000 {SERVER_V4}", check=False)
        self.assert_pings()
        status = self.assert_algebra(daemon)
        self.assertEqual((status["verdicts"]["too_long"], status["truncated"]), (10, 10))
        self.assertTrue(wait_until(lambda: any(" too_long frames=" in line for line in daemon.log()), 3), daemon.log())


class Ports(Inline):
    @contextlib.contextmanager
    def inside_host(self, address="192.0.2.20"):
        """A host of its own behind in0 of the edge."""
        name = self.lab.namespace("host")
        run(["ip", "netns", "add", name])
        try:
            run(f"ip link add in0 netns {self.lab.namespace('edge')} type veth peer name host0 netns {name}".split())
            self.edge("ip link set in0 up")
            for words in (f"addr add {address}/24 dev host0", "link set host0 up", "link set lo up"):
                run(f"ip -n {name} {words}".split())
            yield address
        finally:
            run(["ip", "netns", "del", name])

    def test_between_two_interfaces(self):
        self.bare_interface()
        with self.inside_host() as address:
            daemon = self.inline(ports={"inside": "in0"})
            self.assert_pings(address)
            self.assert_pings(address, size=4000)
            status = self.assert_algebra(daemon)
            self.assertEqual(status["inside"], "in0")
            daemon.stop()
            self.assertFalse(self.netdev_table())

    def test_two_outside_interfaces_share_what_is_inside(self):
        self.bare_interface()
        run(f"ip link add eth2 netns {self.lab.namespace('edge')} type veth peer name o2 netns {self.lab.namespace('net')}".split())
        self.addCleanup(self.edge, "ip link del eth2")
        self.edge("ip link set eth2 up")
        self.net("ip link set o2 up")
        self.net("ip addr add 198.51.100.254/32 dev o2")
        self.net("ip route add 192.0.2.99/32 dev o2 src 198.51.100.254")
        daemon = self.inline(ports={"outside": ["eth1", "eth2"], "inside": "tap:sip0"}, memory={"size": "128 MiB"})
        self.addresses_on("sip0")
        self.edge("ip addr add 192.0.2.99/32 dev sip0")
        self.assert_pings()
        self.assert_pings("192.0.2.99")
        self.assert_algebra(daemon)

    def test_what_cannot_be_opened_is_named(self):
        for ports, words in (({"outside": "eth1", "inside": "nonesuch0"}, "ports.inside: there is no interface nonesuch0"),
                             ({"outside": "eth1", "inside": "0000:ff:1f.7"}, "ports.inside: cannot open 0000:ff:1f.7"),
                             ({"outside": "eth1", "inside": "tap:lo"}, "ports.inside: cannot open tap:lo"),
                             ({"outside": "nonesuch0", "inside": "tap:sip0"}, "ports.outside: there is no interface nonesuch0")):
            before = self.offloads()
            with self.assertRaisesRegex(RuntimeError, f"(?s)exit code 1.*{re.escape(words)}"):
                self.inline(ports=ports)
            self.assertEqual(self.offloads(), before)
            self.assertFalse(self.netdev_table())


if __name__ == "__main__":
    main()
