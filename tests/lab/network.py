# SPDX-License-Identifier: GPL-2.0-or-later
"""The namespaces, what runs in them, and the kernel's counters at either end of the wire."""
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

SERVER_V4, SERVER_V6 = "192.0.2.10", "2001:db8:0:1::10"
GATEWAY_V4, GATEWAY_V6 = "192.0.2.1", "2001:db8:0:1::1"
# Every address of these belongs to the net side: attackers and phones choose theirs by binding to it.
NET_V4 = ("198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15")
NET_V6 = ("2001:db8:66::66/64", "2001:db8:66::67/64", "2001:db8:113::10/64")

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

# Counts SIP datagrams per address of the net side: `sent` as they leave it, `reached` as the edge hands them to the server's
# socket, `answered` as the server's answers come back.
COUNTERS = """
table inet lab {{
  set {name}_v4 {{ type ipv4_addr; size 262144; flags dynamic; counter; }}
  set {name}_v6 {{ type ipv6_addr; size 262144; flags dynamic; counter; }}
  chain {name} {{
    type filter hook {hook} priority 0;
    ip {server} {v4} udp {port} 5060 update @{name}_v4 {{ ip {client} }}
    ip6 {server} {v6} udp {port} 5060 update @{name}_v6 {{ ip6 {client} }}
  }}
}}
"""
TO_SERVER = {"server": "daddr", "port": "dport", "client": "saddr"}
FROM_SERVER = {"server": "saddr", "port": "sport", "client": "daddr"}


def run(command, check=True, timeout=60, **options):
    """Runs a command to its end; its output, as text, is in the result. A failure of a checked one says what it printed."""
    done = subprocess.run(command, text=True, capture_output=True, timeout=timeout, **options)
    if check and done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}")
    return done


def wait_until(condition, seconds, interval=0.02):
    """Asks again and again; true as soon as the condition holds, false if it does not within the time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(interval)
    return True


class Network:
    """Two namespaces and the wire between them. One laboratory of a prefix at a time: the next one waits for its end."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.children = []

    def __enter__(self):
        self.lock = open(f"/run/{self.prefix}.lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.remove_namespaces()  # of a run that was killed
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.prefix}-"))
        try:
            self.make_namespaces()
            self.start_counting()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            self.stop(child)
        self.remove_namespaces()
        shutil.rmtree(self.dir, ignore_errors=True)
        self.lock.close()

    def make_namespaces(self):
        net, edge = self.namespace("net"), self.namespace("edge")
        for name in (net, edge):
            run(["ip", "netns", "add", name])
            run(["ip", "-n", name, "link", "set", "lo", "up"])
        run(["ip", "link", "add", "o0", "netns", net, "type", "veth", "peer", "name", "eth1", "netns", edge])
        for name, device, v4, v6 in ((net, "o0", GATEWAY_V4, GATEWAY_V6), (edge, "eth1", SERVER_V4, SERVER_V6)):
            run(["ip", "-n", name, "addr", "add", f"{v4}/24", "dev", device])
            run(["ip", "-n", name, "addr", "add", f"{v6}/64", "dev", device, "nodad"])
            run(["ip", "-n", name, "link", "set", device, "up"])
            # A wire carries whole checksums; veth would leave them half made, and packet sockets would see that.
            run(["ip", "netns", "exec", name, "ethtool", "-K", device, "tx", "off"])
        for prefix in NET_V4:
            run(["ip", "-n", net, "route", "add", "local", prefix, "dev", "lo"])
        for address in NET_V6:
            run(["ip", "-n", net, "addr", "add", address, "dev", "o0", "nodad"])
        run(["ip", "-n", edge, "route", "add", "default", "via", GATEWAY_V4])
        run(["ip", "-n", edge, "-6", "route", "add", "default", "via", GATEWAY_V6])

    def remove_namespaces(self):
        """Ours by their names; whatever still runs in them goes first."""
        for side in ("net", "edge"):
            name = self.namespace(side)
            for pid in self.programs(side):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            run(["ip", "netns", "del", name], check=False)

    def namespace(self, side):
        return f"{self.prefix}-{side}"

    # ---- programs inside

    def programs(self, side):
        """The processes of a namespace."""
        return [int(pid) for pid in run(["ip", "netns", "pids", self.namespace(side)], check=False).stdout.split()]

    def inside(self, side, command):
        """The command line that runs `command` in a namespace; it dies with this process."""
        return ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.namespace(side)] + [str(word) for word in command]

    def run(self, side, command, **options):
        return run(self.inside(side, command), **options)

    def spawn(self, side, command, log):
        """Starts a program in the background, its output going to a file of the laboratory's folder."""
        with open(self.dir / log, "ab") as output:
            child = subprocess.Popen(self.inside(side, command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                     cwd=self.dir, start_new_session=True)
        self.children.append(child)
        return child

    def stop(self, child, seconds=5):
        """Asks a program to end, and makes it end; its exit code."""
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired:
                child.kill()
        return child.wait()

    @contextlib.contextmanager
    def here(self, side):
        """This thread works in a namespace for a while: sockets opened now belong to it for ever."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.namespace(side)}") as there:
            enter(there)
            try:
                yield
            finally:
                enter(home)

    # ---- the kernel's counters

    def start_counting(self):
        for side, name, hook, way in (("net", "sent", "output", TO_SERVER), ("edge", "reached", "input", TO_SERVER), ("net", "answered", "input", FROM_SERVER)):
            self.run(side, ["nft", "-f", "-"], input=COUNTERS.format(name=name, hook=hook, v4=SERVER_V4, v6=SERVER_V6, **way))

    def sent(self, source):
        """SIP datagrams that this address sent to the server so far."""
        return self.counted("net", "sent").get(source, 0)

    def reached(self, source):
        """How many of them were handed to the server's socket."""
        return self.counted("edge", "reached").get(source, 0)

    def answered(self, source):
        """How many answers of the server came back to it."""
        return self.counted("net", "answered").get(source, 0)

    def counted(self, side, name):
        """All of one counter, by address."""
        found = {}
        for family in ("v4", "v6"):
            for element in self.elements(side, "lab", f"{name}_{family}"):
                found[element["val"]] = element["counter"]["packets"]
        return found

    def elements(self, side, table, name):
        """The elements of a set as nft describes them, each a dict with at least "val"; none if there is no such set."""
        done = self.run(side, ["nft", "-j", "list", "set", "inet", table, name], check=False)
        if done.returncode:
            return []
        found = [item["set"].get("elem", []) for item in json.loads(done.stdout)["nftables"] if "set" in item][0]
        return [e["elem"] if isinstance(e, dict) and "elem" in e else {"val": e} for e in found]


def enter(namespace):
    if LIBC.setns(namespace.fileno(), CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the namespace")
