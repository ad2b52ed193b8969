# SPDX-License-Identifier: GPL-2.0-or-later
"""The program under test on the edge: its settings, its life, its commands, and what it leaves in log and kernel."""
import json
import re
import signal
import time

from .network import SERVER_V4, SERVER_V6, wait_until

CLOCK_TICKS = 100  # USER_HZ, as /proc/PID/stat counts on every Linux


def settings(directory, changes):
    """A settings file, one key of the top level a line (JSON is YAML), with `changes` merged into the laboratory's own."""
    base = {
        "mode": "monitor",
        "ports": {"outside": "eth1"},
        "memory": {"hugepages": "auto", "size": "64 MiB"},
        "idle": "adaptive",
        "sip": {"ports": [5060], "servers": [SERVER_V4, SERVER_V6]},
        "nftables": {"hook": "ingress", "on_stop": "remove"},
        "trust": {"learning": "0s"},
        "log": {"file": f"{directory}/block.log", "format": "text", "level": "info"},
        "state": {"path": f"{directory}/sipward.db"},
        "control": {"socket": f"{directory}/control.sock", "group": "root"},
        "metrics": {"listen": ""},
    }
    for key, value in changes.items():
        base[key] = {**base.get(key, {}), **value} if isinstance(value, dict) else value
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in base.items())


class Sipward:
    """Started with the laboratory's settings and `changes` to them; ready when this returns. Also a context manager that stops it.

    `needs_table`: not if it may be switched off. `environment`: variables of the daemon alone, for what is preloaded into it."""

    def __init__(self, network, program, needs_table=True, environment=None, **changes):
        self.network = network
        self.program = program
        self.needs_table = needs_table
        self.dir = network.dir / f"sipward-{len(network.children)}"
        self.dir.mkdir()
        self.settings = self.dir / "sipward.yaml"
        self.settings.write_text(settings(self.dir, changes))
        self.state = changes.get("state", {}).get("path", self.dir / "sipward.db")
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        self.child = network.spawn("edge", ["env", *variables, program, "run", "--config", self.settings], f"{self.dir.name}/output")
        if not wait_until(lambda: self.child.poll() is not None or self.ready(), 20):
            raise RuntimeError(f"sipward is not ready after 20 s: {self.output()}")
        if self.child.poll() is not None:
            raise RuntimeError(f"sipward ended at once, exit code {self.child.returncode}: {self.output()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.network.stop(self.child)

    def ready(self):
        """The table stands only once the daemon can enforce; the socket answers once its loop runs."""
        return (not self.needs_table or self.table()) and self.command("status").returncode == 0

    def output(self):
        return (self.dir / "output").read_text(errors="replace").strip()

    def stop(self):
        """SIGTERM; (exit code, seconds it took)."""
        start = time.monotonic()
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(15), time.monotonic() - start

    def cpu_seconds(self):
        with open(f"/proc/{self.child.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    # ---- commands

    def command(self, *words):
        """`sipward WORDS --socket …` on the edge."""
        state = ["--state", self.state] if words[0] in ("unblock", "flush", "history", "forget", "off", "on") else []
        return self.network.run("edge", [self.program, *words, "--socket", self.dir / "control.sock", *state], check=False)

    def ask(self, *words):
        """The JSON that a command prints."""
        done = self.command(*words, "--json")
        if done.returncode:
            raise RuntimeError(f"`sipward {' '.join(words)} --json`: exit code {done.returncode}, {done.stderr.strip()}")
        return json.loads(done.stdout)

    # ---- what it leaves

    def log(self):
        """The block log's lines so far."""
        file = self.dir / "block.log"
        return file.read_text().splitlines() if file.exists() else []

    def logged(self, event, subject):
        """The first line of an event about a subject (an address or prefix, as logged), as a dict of its fields; or None."""
        for line in self.log():
            words = re.findall(r'(?:[^\s"]|"(?:\\.|[^"\\])*")+', line)
            if words[1:3] == [event, subject]:
                return {"time": words[0], **dict(word.split("=", 1) for word in words[3:])}
        return None

    def table(self):
        return self.network.run("edge", ["nft", "--terse", "list", "table", "inet", "sipward"], check=False).returncode == 0

    def in_set(self, name):
        """The addresses in one of its sets."""
        return {element["val"] for element in self.network.elements("edge", "sipward", name)}

    def holds(self, address, seconds=2, name=None):
        """Does this address stand in the set of hosts, now or within the time?"""
        name = name or ("blocked_v6" if ":" in address else "blocked_v4")
        return wait_until(lambda: address in self.in_set(name), seconds)

