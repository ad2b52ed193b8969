# SPDX-License-Identifier: GPL-2.0-or-later
"""Where it is measured: the laboratory's network with counters for all attackers together, read often, and for each honest address."""
import ctypes
import json
import os
import pathlib
import threading
import time

from lab import SERVER_V4
from lab.network import Network

HONEST, HOSTILE = "203.0.113.0/24", "198.18.0.0/15"
# After every defence: fail2ban and iptables work in the hook of input at priorities -1 and 0.
COUNTERS = """
table inet lab {{
  set honest {{ type ipv4_addr; size 256; flags dynamic; counter; }}
  counter hostile {{}}
  chain count {{
    type filter hook {hook} priority 100;
    ip {server} {v4} udp {port} 5060 jump sip
  }}
  chain sip {{
    ip {client} {hostile} counter name hostile accept
    ip {client} {honest} update @honest {{ ip {client} }}
  }}
}}
"""
# The server's answers are counted as they come back to the net side: in a table of their own there.
ANSWERS = """
table inet lab_answers {{
  counter hostile {{}}
  chain count {{
    type filter hook input priority 100;
    ip saddr {v4} udp sport 5060 ip daddr {hostile} counter name hostile
  }}
}}
"""
NFT_OUTPUT_JSON = 1 << 4


class Nft:
    """nft without starting a program: libnftables in this process, its socket in a namespace of the laboratory."""
    LIBRARY = ctypes.CDLL("libnftables.so.1")
    LIBRARY.nft_ctx_new.restype = LIBRARY.nft_ctx_get_output_buffer.restype = ctypes.c_void_p

    def __init__(self, network, side):
        with network.here(side):
            self.handle = ctypes.c_void_p(self.LIBRARY.nft_ctx_new(0))
        self.LIBRARY.nft_ctx_output_set_flags(self.handle, NFT_OUTPUT_JSON)
        self.LIBRARY.nft_ctx_buffer_output(self.handle)
        self.LIBRARY.nft_ctx_buffer_error(self.handle)

    def packets(self, table):
        """What the counter of the hostile stands at."""
        if self.LIBRARY.nft_run_cmd_from_buffer(self.handle, f"list counter inet {table} hostile".encode()):
            raise RuntimeError(f"no counter in the table {table}")
        text = ctypes.string_at(self.LIBRARY.nft_ctx_get_output_buffer(self.handle))
        return next(item["counter"]["packets"] for item in json.loads(text)["nftables"] if "counter" in item)

    def close(self):
        self.LIBRARY.nft_ctx_free(self.handle)


class Place(Network):
    """The network of one comparison; `count_anew` before each cell of it."""

    def start_counting(self):
        self.count_anew()

    def count_anew(self):
        words = {"v4": SERVER_V4, "honest": HONEST, "hostile": HOSTILE}
        for side, hook in (("net", "output"), ("edge", "input")):
            for table in ("lab", "lab_answers"):
                self.run(side, ["nft", "delete", "table", "inet", table], check=False)
            self.run(side, ["nft", "-f", "-"], input=COUNTERS.format(hook=hook, server="daddr", port="dport", client="saddr", **words))
        self.run("net", ["nft", "-f", "-"], input=ANSWERS.format(**words))

    def honest(self, side):
        """Datagrams of each honest address: as sent ("net"), as they reached the server's socket ("edge")."""
        return {e["val"]: e["counter"]["packets"] for e in self.elements(side, "lab", "honest")}

    def server_cpu_s(self):
        """Of all of Kamailio's processes."""
        return sum(cpu_seconds(pid) for pid in self.programs("edge") if comm(pid) == "kamailio")


class Watch:
    """Reads the counters of the hostile twenty times a second: (seconds, sent, reached, answered)."""
    INTERVAL_S = 0.05

    def __init__(self, place):
        self.net, self.edge = Nft(place, "net"), Nft(place, "edge")
        self.samples = []
        self.start = time.monotonic()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def sample(self):
        answered, reached = self.net.packets("lab_answers"), self.edge.packets("lab")  # before what was sent, which is then at least as much
        self.samples.append((round(time.monotonic() - self.start, 3), self.net.packets("lab"), reached, answered))

    def watch(self):
        while not self.ended.wait(self.INTERVAL_S):
            self.sample()

    def stop(self):
        self.ended.set()
        self.thread.join()
        self.sample()
        self.net.close()
        self.edge.close()
        return self.samples


def block_time_s(samples):
    """From the first hostile datagram until the server answered (nearly) none any more, to the end; None: it went on."""
    begun = [s for s in samples if s[1] > 0]
    if not begun:
        return None
    _, sent, _, answered = samples[-1]
    if answered == 0:
        return 0.0  # of some tools that is all: without a first answer they give up
    for at, sent_by_then, _, answered_by_then in begun:
        if sent - sent_by_then < 10:
            return None  # too few are left to say so
        if answered - answered_by_then <= 0.02 * (sent - sent_by_then):
            return at - begun[0][0]
    return None


def comm(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def cpu_seconds(pid, with_children=False):
    """Of a process, and of those that it waited for."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15 if with_children else 13]) / os.sysconf("SC_CLK_TCK")
