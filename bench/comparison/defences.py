# SPDX-License-Identifier: GPL-2.0-or-later
"""The defences, each as its own documentation advises: the files are in bench/peers."""
import pathlib
import re
import shutil

from lab import GATEWAY_V4, GATEWAY_V6, SERVER_V4, SERVER_V6, Sipward
from lab.network import wait_until

from .place import cpu_seconds

PEERS = pathlib.Path(__file__).parent.parent / "peers"


class Nothing:
    """No defence at all, and what all have in common."""
    name = "nothing"
    switches = ()
    words = {}
    in_kernel = False  # its work is done in softirqs, which no process pays for

    def __init__(self, place, program):
        self.place, self.program = place, program

    def before_server(self):
        """What must stand before Kamailio starts."""

    def start(self):
        pass

    def stop(self):
        pass

    def cpu_s(self):
        return 0.0

    def banned(self):
        """The addresses that it says it bans."""
        return set()


class Fail2ban(Nothing):
    name = "fail2ban"
    switches = ("WITH_SECURITY_LOG",)
    child = None

    def start(self):
        folder = self.place.dir / "fail2ban"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree("/etc/fail2ban", folder, ignore=shutil.ignore_patterns("jail.d"))
        for file in (PEERS / "fail2ban").rglob("*.*"):
            if file.is_file():
                text = file.read_text().replace("LAB_DIR", str(self.place.dir))
                (folder / file.relative_to(PEERS / "fail2ban")).write_text(text)
        self.socket = self.place.dir / "fail2ban.sock"
        self.child = self.place.spawn("edge", ["fail2ban-server", "-f", "-x", "-c", folder, "-s", self.socket, "-p", self.place.dir / "fail2ban.pid", "start"],
                                      "fail2ban.out")
        if not wait_until(lambda: "kamailio.log" in self.client("status", "kamailio"), 20, 0.2):
            raise RuntimeError(f"fail2ban does not watch the log:\n{(self.place.dir / 'fail2ban.out').read_text()[-2000:]}")

    def client(self, *words):
        return self.place.run("edge", ["fail2ban-client", "-s", self.socket, *words], check=False).stdout

    def stop(self):
        if self.child:
            self.place.stop(self.child, 10)
        self.place.run("edge", ["nft", "delete", "table", "inet", "f2b-table"], check=False)

    def cpu_s(self):
        return cpu_seconds(self.child.pid, with_children=True)

    def banned(self):
        found = re.search(r"Banned IP list:(.*)", self.client("status", "kamailio"))
        return set(found[1].split()) if found else set()


class Pike(Nothing):
    name = "pike + htable"
    switches = ("WITH_ANTIFLOOD",)
    words = {"LAB_ANTIFLOOD": PEERS / "pike.cfg"}

    def banned(self):
        return set(re.findall(r"pike blocking .*\(IP:([0-9.]+):", (self.place.dir / "kamailio.log").read_text(errors="replace")))


class Iptables(Nothing):
    name = "iptables string + hashlimit"
    in_kernel = True

    def start(self):
        self.place.run("edge", ["iptables-restore", PEERS / "iptables.rules"])

    def stop(self):
        for words in (["-F"], ["-X"]):
            self.place.run("edge", ["iptables", *words])


class Meter(Nothing):
    name = "nft meter"
    in_kernel = True

    def start(self):
        self.place.run("edge", ["nft", "-f", PEERS / "meter.nft"])

    def banned(self):
        return {e["val"] for e in self.place.elements("edge", "peer", "blackhole") if isinstance(e["val"], str)}

    def stop(self):
        self.place.run("edge", ["nft", "delete", "table", "inet", "peer"], check=False)


class Monitor(Nothing):
    """The shipped settings, past the first day's learning."""
    name = "sipward, monitor"
    changes = {"memory": {"size": "256 MiB"}}
    daemon = None

    def start(self):
        self.daemon = Sipward(self.place, self.program, **self.changes)

    def stop(self):
        if self.daemon:
            self.place.stop(self.daemon.child, 10)

    def cpu_s(self):
        return self.daemon.cpu_seconds()

    def banned(self):
        return {line.split()[2].split("/")[0] for line in self.daemon.log() if line.split()[1] in ("block", "limit")}


class Inline(Monitor):
    """In the way, before a server on the same host: its addresses move to sip0."""
    name = "sipward, inline"
    changes = {**Monitor.changes, "mode": "inline", "ports": {"outside": "eth1", "inside": "tap:sip0"}}

    def before_server(self):
        self.place.run("edge", ["ip", "addr", "flush", "dev", "eth1"])
        self.daemon = Sipward(self.place, self.program, **self.changes)
        self.addresses_on("sip0")

    def start(self):
        pass  # it does already

    def stop(self):
        super().stop()
        self.addresses_on("eth1")

    def addresses_on(self, device):
        for words in (f"addr replace {SERVER_V4}/24 dev {device}", f"addr replace {SERVER_V6}/64 dev {device} nodad",
                      f"route replace default via {GATEWAY_V4}", f"-6 route replace default via {GATEWAY_V6}"):
            self.place.run("edge", ["ip", *words.split()])
        self.place.run("net", ["ip", "neigh", "flush", "all"])


ALL = (Nothing, Fail2ban, Pike, Iptables, Meter, Monitor, Inline)
