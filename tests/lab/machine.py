# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole machine: a Debian root of its own with systemd as its first process, in a container, its network card being the
laboratory's `eth1`. The root is made once and kept in the build folder; each machine writes into a layer of its own."""
import contextlib
import ctypes
import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from .network import LIBC, Network, run, wait_until

TOOLS = ("mmdebstrap", "systemd-nspawn", "nsenter", "dpkg-deb", "cpack", "nft", "ip", "ethtool")
# Beside what the package depends on: what an operator's machine has.
BASE = ("systemd-sysv", "dbus", "nftables", "iproute2", "logrotate", "procps")
PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000


def sources():
    """The files that say where this machine has Debian from."""
    files = [pathlib.Path("/etc/apt/sources.list"), *sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*"))]
    return [file for file in files if file.is_file() and file.suffix in (".list", ".sources")
            and re.search(r"^(deb |URIs:).*debian", file.read_text(encoding="utf-8"), re.MULTILINE)]


def build_package(build, directory):
    """The package, as cpack makes it."""
    run(["cpack", "-G", "DEB", "-B", str(directory)], cwd=build, timeout=600)
    return next(directory.glob("*.deb"))


def later_version(package, directory):
    """The same package with a higher version."""
    tree = directory / "later"
    run(["dpkg-deb", "-R", str(package), str(tree)])
    control = tree / "DEBIAN/control"
    version = run(["dpkg-deb", "-f", str(package), "Version"]).stdout.strip()
    control.write_text(control.read_text().replace(f"Version: {version}\n", f"Version: {version}.1\n"))
    later = directory / "later.deb"
    run(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(later)])
    return later


def debian_root(cache, package):
    """A folder with Debian and everything that the package depends on, but not the package itself."""
    depends = run(["dpkg-deb", "-f", str(package), "Depends"]).stdout
    names = sorted({*BASE, *(re.sub(r"[ |(].*", "", word.strip()) for word in depends.split(","))})
    root = cache / f"root-{hashlib.sha256(' '.join(names).encode()).hexdigest()[:12]}"
    if root.exists():
        return root
    making = root.with_suffix(".part")
    shutil.rmtree(making, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    run(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(names)}", "--format=directory",
         "--dpkgopt=force-unsafe-io", "--aptopt=Acquire::Languages none", "bookworm", str(making), *map(str, sources())], timeout=1500)
    making.rename(root)
    return root


class Machine(Network):
    """The laboratory's network with this machine at its edge; it is booted by boot()."""

    def __init__(self, prefix, root):
        super().__init__(prefix)
        self.lower = root
        self.nspawn = None
        self.leader = 0  # systemd's process, as this machine numbers it

    def __enter__(self):
        super().__enter__()
        try:
            self.mount()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        self.power_off()
        for mount in ("root", "layers"):
            run(["umount", "--lazy", str(self.dir / mount)], check=False)
        super().__exit__(*_)

    def mount(self):
        """The root under a layer in memory."""
        layers, self.root = self.dir / "layers", self.dir / "root"
        layers.mkdir()
        run(["mount", "-t", "tmpfs", "-o", "size=1G,mode=755", f"{self.prefix}-layers", str(layers)])
        for folder in (layers / "upper", layers / "work", self.root):
            folder.mkdir()
        run(["mount", "-t", "overlay", f"{self.prefix}-root", "-o", f"lowerdir={self.lower},upperdir={layers}/upper,workdir={layers}/work", str(self.root)])

    # ---- its life

    def boot(self):
        with open(self.dir / "console", "ab") as console:
            self.nspawn = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "--boot", "--quiet", "--register=no", "--keep-unit", "--console=pipe", "--capability=CAP_NET_ADMIN,CAP_IPC_LOCK",
                 f"--network-namespace-path=/run/netns/{self.namespace('edge')}", f"--machine={self.prefix}", "--directory", str(self.root)],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True)
        if not wait_until(lambda: self.nspawn.poll() is not None or self.is_up(), 60, interval=0.1) or self.nspawn.poll() is not None:
            raise RuntimeError(f"the machine does not boot: {(self.dir / 'console').read_text(errors='replace')[-2000:]}")

    def is_up(self):
        """Its units are all started, or have failed."""
        child = self.nspawn.pid
        for _ in range(2):  # nspawn's helper, then systemd
            below = pathlib.Path(f"/proc/{child}/task/{child}/children").read_text(encoding="ascii").split()
            if not below:
                return False
            child = int(below[0])
        self.leader = child
        return self.inside_run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def power_off(self):
        if self.nspawn is None or self.nspawn.poll() is not None:
            return
        if self.leader:
            self.inside_run("systemctl", "poweroff", check=False)
        else:
            self.nspawn.terminate()
        try:
            self.nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait()
        self.leader = 0

    def reboot(self):
        """What it had in memory is gone: with its network, what its kernel held of it."""
        self.power_off()
        self.remove_namespaces()
        self.make_namespaces()
        self.start_counting()
        self.boot()

    # ---- inside

    def inside_run(self, *words, **options):
        """A command on the machine, to its end."""
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        return run(["nsenter", "--target", str(self.leader), "--all", "--", *words], env=clean, **options)

    def put(self, file, path):
        shutil.copy(file, self.root / path.lstrip("/"))

    def path(self, path):
        return self.root / path.lstrip("/")

    def journal(self, *matches):
        return self.inside_run("journalctl", "--no-pager", "--output=cat", "--unit=sipward", *matches).stdout

    def main_pid(self):
        """The daemon's process as the machine numbers it; 0: none."""
        return int(self.inside_run("systemctl", "show", "--property=MainPID", "--value", "sipward").stdout)

    def outer_pid(self, inner):
        """As this machine numbers it."""
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                if re.search(rf"^NSpid:\t\d+\t{inner}$", status.read_text(), re.MULTILINE) and self.root_of(status.parent) == self.root_of(pathlib.Path(f"/proc/{self.leader}")):
                    return int(status.parent.name)
        raise RuntimeError(f"no process {inner} in the machine")

    @staticmethod
    def root_of(process):
        return os.readlink(process / "ns/pid")


class Held:
    """A thread of some process that goes no further, while the others run on; a context manager."""

    def __init__(self, pid, name):
        tasks = [task for task in pathlib.Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text().strip() == name]
        self.thread = int(tasks[0].name)

    def __enter__(self):
        for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
            if LIBC.ptrace(request, self.thread, None, None):
                raise OSError(ctypes.get_errno(), "cannot stop the thread")
        return self

    def reaped(self):
        """Has it been killed? Until its end is taken note of here, its process cannot end."""
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(self.thread, os.WNOHANG | WALL)
            return pid == self.thread and (os.WIFEXITED(status) or os.WIFSIGNALED(status))
        return True

    def __exit__(self, *_):
        end = time.monotonic() + 5
        while not self.reaped() and time.monotonic() < end:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.thread, signal.SIGCONT)
            time.sleep(0.05)


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="sipward-package-") as made:
        yield pathlib.Path(made)
