#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's own ways of dropping cost, in CPU-ns a packet: nft, iptables, XDP, each on a veth pair in namespaces of their
own, round after round all of them.

The receiving end has a NAPI thread of its own (/sys/class/net/*/threaded), on the same core as the sender, who gives it the core
after every batch: so what receiving costs is the thread's CPU time alone (schedstat, exact while it sleeps). The sender made the
packets' buffers, which a NIC's driver would have to make while receiving: that is not counted, in the kernel's favour.

  bench/kernel_paths.py [ROUNDS [PROGRAM]]    PROGRAM: bench/dataplane, for the worker's figures in the same run
"""
import ctypes
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
from lab.raw import Frames, udp_frame  # noqa: E402

SOURCES = 1000  # all of them in the sets
FRAME = 401  # octets, a REGISTER
BATCH = 128  # half a veth's ring
PACKETS = BATCH * 1500  # of each measurement
SERVER, FIRST = "192.0.2.10", "198.18.0.1"
FRIENDLY = "User-Agent: friendly-scanner"
TABLE = "table netdev bench {{ {sets} chain c {{ type filter hook ingress device {device} priority 0; {rules}; }}; }}"
XDP = 'int drop(void *c) __attribute__((section("xdp"))); int drop(void *c) { return 1; }\n'


def run(*command, **options):
    done = subprocess.run(command, text=True, capture_output=True, **options)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def addresses():
    first = int.from_bytes(socket.inet_aton(FIRST), "big")
    return [socket.inet_ntoa((first + i).to_bytes(4, "big")) for i in range(SOURCES)]


def frame(source, macs):
    """A REGISTER of a phone; what iptables looks for is not in it, so that it reads all of it."""
    text = (f"REGISTER sip:lab.example.net SIP/2.0\r\nVia: SIP/2.0/UDP {source}:5060;branch=z9hG4bK-1;rport\r\n"
            f"From: <sip:100@lab.example.net>;tag=1\r\nTo: <sip:100@lab.example.net>\r\nCSeq: 1 REGISTER\r\n"
            f"User-Agent: Yealink SIP-T46S 66.85.0.5\r\nContact: <sip:100@{source}>\r\nCall-ID: ").encode()
    end = b"\r\nContent-Length: 0\r\n\r\n"
    text += b"1" * (FRAME - 42 - len(text) - len(end)) + end
    return udp_frame(macs, source, SERVER, text)


class Wire:
    """Two namespaces, the wire between them, a sender at one end and a NAPI thread at the other."""

    def __init__(self):
        self.names = [f"kernel-paths-{side}-{os.getpid()}" for side in ("net", "edge")]
        for name in self.names:
            run("ip", "netns", "add", name)
        net, edge = self.names
        run("ip", "-n", net, "link", "add", "wire", "type", "veth", "peer", "name", "edge", "netns", edge)
        run("ip", "-n", net, "link", "set", "wire", "up")
        run("ip", "-n", edge, "link", "set", "edge", "up")
        run("ip", "-n", edge, "address", "add", f"{SERVER}/24", "dev", "edge")
        self.at_edge("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.edge.rp_filter=0")
        self.at_edge("ethtool", "-K", "edge", "gro", "on")  # with it, a veth receives by NAPI,
        run("ip", "netns", "exec", net, "ethtool", "-K", "wire", "tso", "off")  # if its peer does not segment
        self.at_edge("sh", "-c", "echo 1 > /sys/class/net/edge/threaded")
        self.thread = next(p for p in pathlib.Path("/proc").glob("[0-9]*") if self.comm(p).startswith("napi/edge-"))
        self.core = os.sched_getaffinity(0).pop()
        os.sched_setaffinity(0, {self.core})
        os.sched_setaffinity(int(self.thread.name), {self.core})
        mac = lambda name, device: bytes.fromhex(
            run("ip", "netns", "exec", name, "cat", f"/sys/class/net/{device}/address").strip().replace(":", ""))
        self.frames = Frames([frame(a, mac(edge, "edge") + mac(net, "wire")) for a in addresses()])
        self.socket = self.socket_in(net)

    @staticmethod
    def comm(process):
        try:
            return (process / "comm").read_text()
        except OSError:
            return ""

    @staticmethod
    def socket_in(namespace):
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/self/ns/net") as home, open(f"/run/netns/{namespace}") as there:
            libc.setns(there.fileno(), 0)
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            made.bind(("wire", 0))
            libc.setns(home.fileno(), 0)
        return made

    def at_edge(self, *command, **options):
        return run("ip", "netns", "exec", self.names[1], *command, **options)

    def received(self):
        return int(self.at_edge("cat", "/sys/class/net/edge/statistics/rx_packets"))

    def thread_ns(self):
        return int((self.thread / "schedstat").read_text().split()[0])

    def measure(self):
        """CPU-ns that the receiving thread spends on a packet."""
        time.sleep(0.02)
        packets, ns = self.received(), self.thread_ns()
        first = 0
        for _ in range(PACKETS // BATCH):
            first = first + BATCH if first + 2 * BATCH <= SOURCES else 0
            self.frames.send(self.socket, first, BATCH)
            os.sched_yield()
        time.sleep(0.05)
        packets, ns = self.received() - packets, self.thread_ns() - ns
        if packets < PACKETS // 2:
            raise RuntimeError(f"only {packets} of {PACKETS} packets arrived")
        return ns / packets

    def end(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


class Nft:
    def __init__(self, wire, rules, sets=""):
        self.wire, self.text = wire, TABLE.format(sets=sets, rules=rules, device="edge")

    def __enter__(self):
        self.wire.at_edge("nft", "-f", "-", input=self.text)

    def __exit__(self, *_):
        self.wire.at_edge("nft", "delete", "table", "netdev", "bench")


class Iptables:
    """Rules before connection tracking; whatever passes them is dropped by the last one."""

    def __init__(self, wire, *match):
        self.wire, self.match = wire, match

    def __enter__(self):
        self.wire.at_edge("iptables", "-t", "raw", "-A", "PREROUTING", "-p", "udp", "--dport", "5060", *self.match, "-j", "DROP")
        self.wire.at_edge("iptables", "-t", "raw", "-A", "PREROUTING", "-i", "edge", "-j", "DROP")

    def __exit__(self, *_):
        self.wire.at_edge("iptables", "-t", "raw", "-F", "PREROUTING")


class Xdp:
    """A program that drops whatever comes, and looks nothing up."""

    def __init__(self, wire, folder):
        self.wire, self.program = wire, folder / "drop.o"
        source = folder / "drop.c"
        source.write_text(XDP)
        run("clang", "-O2", "-g", "-target", "bpf", "-c", str(source), "-o", str(self.program))

    def __enter__(self):
        self.wire.at_edge("ip", "link", "set", "dev", "edge", "xdp", "obj", str(self.program), "sec", "xdp")

    def __exit__(self, *_):
        self.wire.at_edge("ip", "link", "set", "dev", "edge", "xdp", "off")


def worker_figures(program):
    """Of the real worker, in the same run: name -> CPU-ns."""
    if program is None:
        return {}
    wanted = ("first look, 10^5", "blocked, 10^5")
    lines = run(program, "5", "100", *wanted).splitlines()
    return {name: float(line[len(name):].split()[0]) for line in lines for name in wanted if line.startswith(name + " ")}


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    figures = worker_figures(sys.argv[2] if len(sys.argv) > 2 else None)
    wire = Wire()
    try:
        with tempfile.TemporaryDirectory() as folder:
            elements = f"set s {{ type ipv4_addr; elements = {{ {', '.join(addresses())} }} }};"
            meter = "set m { type ipv4_addr; flags dynamic; size 65536; };"
            ways = {
                "nft, drop all": Nft(wire, "drop"),
                "nft, drop a set of 1,000": Nft(wire, "ip saddr @s drop", elements),
                "nft, meter": Nft(wire, "udp dport 5060 update @m { ip saddr limit rate over 10/second burst 75 packets } drop; drop", meter),
                "iptables, drop all": Iptables(wire),
                "iptables -m string": Iptables(wire, "-m", "string", "--algo", "bm", "--string", FRIENDLY),
                "iptables -m hashlimit": Iptables(wire, "-m", "hashlimit", "--hashlimit-above", "10/second", "--hashlimit-burst", "75",
                                                  "--hashlimit-mode", "srcip", "--hashlimit-name", "bench"),
            }
            try:
                ways["XDP, drop all"] = Xdp(wire, pathlib.Path(folder))
                with ways["XDP, drop all"]:
                    pass
            except RuntimeError as reason:
                print(f"without XDP: {reason}")
                ways.pop("XDP, drop all", None)
            results = {name: [] for name in ways}
            for turn in range(rounds + 1):
                for name, way in ways.items():
                    with way:
                        ns = wire.measure()
                    if turn > 0:  # the first round warms up
                        results[name].append(ns)
    finally:
        wire.end()
    for name, ns in results.items():
        print(f"{name:28} {statistics.median(ns):8.1f} ns   {min(ns):7.1f} .. {max(ns):.1f}")
    for way, ours, bound in (("iptables -m string", "first look, 10^5", "must >= 9"),
                             ("nft, drop a set of 1,000", "blocked, 10^5", "must >= 10")):
        if ours in figures:
            print(f"  {way} / {ours} ({figures[ours]:.1f} ns)   {statistics.median(results[way]) / figures[ours]:.1f}   {bound}")


if __name__ == "__main__":
    main()
