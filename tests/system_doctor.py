#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`sipward doctor` (OPERATORS.md 14, 23) on hosts that really have what it looks for: each fault is made, named with what to do, and no
longer told when it is mended."""
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

from lab import GATEWAY_V4, SERVER_V4, SERVER_V6, Phones, Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main
from lab.network import LIBC, wait_until
from lab.sipward import settings

SOL_UDP, UDP_SEGMENT = 17, 103
STA_UNSYNC, TIME_ERROR = 0x40, 5  # adjtimex(2)
SYS_BPF, PROG_LOAD, PROG_ATTACH, PROG_DETACH = 321, 5, 8, 9  # bpf(2), on x86-64
SCHED_CLS, TCX_INGRESS = 3, 46
DROP_ALL = 'int drop(void *c) __attribute__((section("xdp"))); int drop(void *c) { return 1; }\n'


def clock_is_synchronised():
    """As the kernel has it; no test changes that."""
    timex = (ctypes.c_int * 64)()
    state = LIBC.adjtimex(timex)
    return state != TIME_ERROR and not timex[10] & STA_UNSYNC  # modes, five longs, status


def send_keepalives(lab, source, count, size=4, train=1):
    """In trains that the kernel makes of one call."""
    with lab.attacks.socket(source) as sender:
        if train > 1:
            sender.setsockopt(SOL_UDP, UDP_SEGMENT, size)
        for _ in range(count // train):
            sender.sendto(b"\r\n" * (size // 2 * train), (SERVER_V4, 5060))


class DoctorTest(LabTest):
    changes = {}

    def asked(self, *words, before=(), daemon=None, **changes):
        """`sipward doctor` on the edge, with the laboratory's settings and `changes` to them. `before`: words in front of it."""
        if daemon is None:
            folder = self.lab.dir / "doctor"
            folder.mkdir(exist_ok=True)
            file, control = folder / "sipward.yaml", folder / "control.sock"
            file.write_text(settings(folder, {**self.changes, **changes}))
        else:
            file, control = daemon.settings, daemon.dir / "control.sock"
        return self.lab.run("edge", [*before, self.program, "doctor", "--config", file, "--socket", control, *words], check=False)

    def findings(self, **options):
        """What it finds, by name; text, JSON and exit code say the same."""
        answer = self.asked("--json", **options)
        said = json.loads(answer.stdout)
        self.assertIs(said["daemon"], options.get("daemon") is not None)
        self.assertIs(said["complete"], True)
        text = self.asked(**options)
        troubles = [finding for finding in said["findings"] if finding["weight"] == "trouble"]
        self.assertEqual((answer.returncode, text.returncode), (int(bool(troubles)),) * 2, text.stdout + text.stderr)
        self.assertEqual(text.stdout.count("TROUBLE  "), len(troubles), text.stdout)
        for finding in said["findings"]:
            self.assertTrue(finding["what"] and finding["remedy"])
            self.assertIn(finding["remedy"], text.stdout)
        if not said["findings"]:
            self.assertIn("nothing on this host stands in sipward's way", text.stdout)
        return {finding["check"]: f"{finding['what']}; {finding['remedy']}" for finding in said["findings"]}

    def comes_to(self, checks, daemon, seconds=10):
        """Within the time, beside what is so everywhere, just these are found."""
        def found():
            return {finding["check"] for finding in json.loads(self.asked("--json", daemon=daemon).stdout)["findings"]}
        self.assertTrue(wait_until(lambda: found() == self.healthy() | checks, seconds), f"{found()} instead of {checks}: {daemon.output()}")

    def healthy(self):
        """What is so in every laboratory on this machine."""
        return set() if clock_is_synchronised() else {"clock"}

    def assert_healthy(self, **options):
        found = self.findings(**options)
        self.assertEqual(set(found), self.healthy(), found)

    def assert_found(self, check, *words, **options):
        """This and nothing else, in these words."""
        found = self.findings(**options)
        self.assertEqual(set(found), self.healthy() | {check}, found)
        for word in words:
            self.assertIn(word, found[check])

    def edge(self, command, **options):
        return self.lab.run("edge", command.split(), **options)

    @contextlib.contextmanager
    def undone(self, do, undo):
        """Commands of the edge, around what happens inside."""
        for command in do:
            self.edge(command)
        try:
            yield
        finally:
            for command in undo:
                self.edge(command)

    @contextlib.contextmanager
    def listening(self, kind, port, address="0.0.0.0"):
        with self.lab.here("edge"):
            bound = socket.socket(socket.AF_INET, kind)
        with bound:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((address, port))
            if kind == socket.SOCK_STREAM:
                bound.listen()
            yield

    def disk(self, options="size=1m"):
        """A small disk of its own."""
        folder = self.lab.dir / f"disk-{self.id().rsplit('.', 1)[1]}"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        return folder

    def fill(self, folder):
        with open(folder / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(4096)) == 4096:
                pass


class Host(DoctorTest):
    """Before any daemon runs, as after the installation. The interface is one that nothing else needs."""
    changes = {"ports": {"outside": "out1"}}

    @classmethod
    def setUpClass(cls):
        for command in ("ip link add out1 type veth peer name out2", "ip link set out1 up", "ip link set out2 up"):
            cls.lab.run("edge", command.split())
        cls.addClassCleanup(cls.lab.run, "edge", "ip link del out1".split())

    def tearDown(self):
        self.assert_healthy()  # mended, it has nothing more to say

    def test_a_healthy_host_has_nothing_to_say_but_that_no_daemon_was_asked(self):
        self.assert_healthy()
        self.assertIn("no daemon answers", self.asked().stdout)

    def test_sip_on_other_ports(self):
        for kind, port, word in ((socket.SOCK_DGRAM, 5062, "UDP"), (socket.SOCK_STREAM, 5080, "TCP"), (socket.SOCK_DGRAM, 5160, "UDP")):
            with self.subTest(port=port), self.listening(kind, port):
                self.assert_found("sip_ports", f"{word} port {port}", "sip.ports")
                if kind == socket.SOCK_DGRAM:
                    self.assert_healthy(sip={"ports": [5060, port], "servers": [SERVER_V4]})
        with self.listening(socket.SOCK_DGRAM, 5062, "127.0.0.1"):
            self.assert_healthy()  # nobody reaches that from outside

    def test_sip_over_tcp(self):
        with self.listening(socket.SOCK_STREAM, 5060):
            self.assert_found("sip_over_tcp", "not read")

    def test_a_port_that_is_sent_on_to_the_sip_port(self):
        for rule in ("udp dport 5080 redirect to :5060", f"udp dport 5080 dnat to {SERVER_V4}:5060"):
            with self.subTest(rule):
                self.edge("nft add table ip admin { chain nat { type nat hook prerouting priority dstnat; " + rule + "; }; }")
                try:
                    self.assert_found("redirect", "ip admin", "5080 on to port 5060", "add 5080 to sip.ports")
                    self.assert_healthy(sip={"ports": [5060, 5080], "servers": [SERVER_V4]})
                finally:
                    self.edge("nft delete table ip admin")
        for target in ("REDIRECT --to-ports 5060", f"DNAT --to-destination {SERVER_V4}:5060") if shutil.which("iptables-nft") else ():
            rule = f"PREROUTING -p udp --dport 5080 -j {target}"
            with self.subTest(rule), self.undone([f"iptables-nft -t nat -A {rule}"], [f"iptables-nft -t nat -D {rule}"]):
                self.assert_found("redirect", "ip nat", "5080 on to port 5060", "add 5080 to sip.ports")

    def test_an_interface_that_is_not_there_or_hears_nothing(self):
        self.assert_found("interface", "eth9", ports={"outside": "eth9"})
        with self.undone(["ip link set out1 down"], ["ip link set out1 up"]):
            self.assert_found("interface_down", "out1 is down")
        with self.undone(["ip link set out2 down"], ["ip link set out2 up"]):
            self.assert_found("interface_down", "out1 has no link")

    def test_an_interface_below_another(self):
        with self.undone(["ip link add br0 type bridge", "ip link set out1 master br0"], ["ip link del br0"]):
            self.assert_found("bridge", "out1", "br0", "ingress", nftables={"hook": "prerouting"})
            self.assert_healthy()
        if self.edge("ip link add bond0 type bond", check=False).returncode:
            return  # a kernel without: tests/doctor_test.cpp has it
        with self.undone(["ip link set out1 down", "ip link set out1 master bond0", "ip link set bond0 up"], ["ip link del bond0", "ip link set out1 up"]):
            self.assert_found("bond", "out1 is a slave of bond0", "name bond0")

    def test_programs_before_nftables(self):
        redirect = "protocol ip u32 match u32 0 0 action mirred egress redirect dev out2"
        with self.undone(["tc qdisc add dev out1 clsact", f"tc filter add dev out1 ingress {redirect}"], ["tc qdisc del dev out1 clsact"]):
            self.assert_found("tc", "out1")
        with self.undone(["tc qdisc add dev out1 ingress", f"tc filter add dev out1 parent ffff: {redirect}"], ["tc qdisc del dev out1 ingress"]):
            self.assert_found("tc", "out1")
        with self.undone(["tc qdisc add dev out1 clsact", f"tc filter add dev out1 egress {redirect}"], ["tc qdisc del dev out1 clsact"]):
            self.assert_healthy()  # what leaves is another matter
        with self.tcx_program("out1"):
            self.assert_found("tc", "out1")
        source = self.lab.dir / "drop.c"
        source.write_text(DROP_ALL)
        subprocess.run(["clang", "-O2", "-g", "-target", "bpf", "-c", source, "-o", source.with_suffix(".o")], check=True)
        with self.undone([f"ip link set dev out1 xdp obj {source.with_suffix('.o')} sec xdp"], ["ip link set dev out1 xdp off"]):
            self.assert_found("xdp", "out1")

    @contextlib.contextmanager
    def tcx_program(self, interface):
        """A program that lets everything pass, attached without a qdisc (Linux 6.6); where there is no such thing, nothing is tested."""
        code = ctypes.create_string_buffer(struct.pack("=QQ", 0xB7 | 0xFFFFFFFF << 32, 0x95))  # r0 = TCX_NEXT; exit
        licence = ctypes.create_string_buffer(b"GPL")
        load = ctypes.create_string_buffer(struct.pack("=IIQQ", SCHED_CLS, 2, ctypes.addressof(code), ctypes.addressof(licence)), 120)
        program = LIBC.syscall(SYS_BPF, PROG_LOAD, load, len(load))
        self.assertGreaterEqual(program, 0, os.strerror(ctypes.get_errno()))
        try:
            with self.lab.here("edge"):
                attach = ctypes.create_string_buffer(struct.pack("=III", socket.if_nametoindex(interface), program, TCX_INGRESS), 32)
                self.assertEqual(LIBC.syscall(SYS_BPF, PROG_ATTACH, attach, len(attach)), 0, os.strerror(ctypes.get_errno()))
            yield
            with self.lab.here("edge"):
                self.assertEqual(LIBC.syscall(SYS_BPF, PROG_DETACH, attach, len(attach)), 0, os.strerror(ctypes.get_errno()))
        finally:
            os.close(program)

    def test_offloads_that_join_datagrams(self):
        with self.undone(["ethtool -K out1 gro on rx-udp-gro-forwarding on"], ["ethtool -K out1 gro off rx-udp-gro-forwarding off"]):
            self.assert_found("offloads", "only the first", "ethtool -K out1 rx-udp-gro-forwarding off")
        with self.undone(["ethtool -K out1 gro on"], ["ethtool -K out1 gro off"]):
            self.assert_healthy()  # that joins TCP, which nobody reads

    def test_nobody_is_protected(self):
        self.assert_found("servers", "sip.servers", sip={"servers": []})
        with self.undone(["ip addr add 192.0.2.200/32 dev out1"], ["ip addr del 192.0.2.200/32 dev out1"]):
            self.assert_healthy(sip={"servers": []})

    def test_files_that_cannot_be_written(self):
        disk = self.disk()
        self.assert_healthy(state={"path": f"{disk}/sipward.db"}, log={"file": f"{disk}/made/block.log"})
        self.fill(disk)
        self.assert_found("files", "state.path", "is full", state={"path": f"{disk}/sipward.db"})
        (disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        self.assert_found("files", "log.file", "read-only", log={"file": f"{disk}/block.log"})
        self.assert_found("files", "no folder", log={"file": "/nonexistent/folder/block.log"})

    def test_a_dry_run(self):
        self.assert_found("dry_run", "nobody is blocked", block={"dry_run": True})

    def test_hugepages(self):
        self.assert_found("hugepages", "vm.nr_hugepages=", memory={"hugepages": "on", "size": "1 TiB"})

    def test_cilium(self):
        with self.undone(["ip link add cilium_host type veth peer name cilium_net"], ["ip link del cilium_host"]):
            self.assert_found("cilium", "externalTrafficPolicy")

    def test_a_kernel_without_an_ingress_hook(self):
        old = ["setarch", "--uname-2.6"]  # it says that it is Linux 2.6
        self.assert_found("ingress_hook", "nftables.hook: prerouting", before=old)

    def test_fail2ban_with_a_jail_for_sip(self):
        jails = "mount -t tmpfs tmpfs /etc && mkdir -p /etc/fail2ban/jail.d && printf '%s' > /etc/fail2ban/jail.d/sip.local && exec \"$@\""
        sip = ["sh", "-c", jails % r"[asterisk]\nenabled = true\n", "sh"]  # in the mount namespace of this one command
        self.assert_healthy(before=sip)  # it is set up, and does not run
        server = self.lab.dir / "fail2ban-server"
        shutil.copy("/bin/sleep", server)
        child = self.lab.spawn("edge", [server, 600], "fail2ban.log")
        try:
            self.assertTrue(wait_until(lambda: set(self.findings(before=sip)) != self.healthy(), 5))
            self.assert_found("fail2ban", "asterisk", "ignoreip", before=sip)
            self.assert_healthy(before=["sh", "-c", jails % r"[sshd]\nenabled = true\n", "sh"])
        finally:
            self.lab.stop(child)

    def test_denials_of_apparmor(self):
        """In a kernel's log of our own: not every kernel has AppArmor."""
        log = self.lab.dir / "kmsg"
        log.write_text('6,1,1,-;audit: type=1400 apparmor="DENIED" operation="open" profile="/usr/sbin/sipward" comm="sipward"\n')
        self.assert_found("apparmor", "journalctl -k", before=["sh", "-c", f"mount --bind {log} /dev/kmsg && exec \"$@\"", "sh"])

    def test_who_may_not_see_all_is_told_so(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            program, file = shutil.copy(self.program, folder), os.path.join(folder, "sipward.yaml")
            with open(file, "w", encoding="ascii") as text:
                text.write(settings(folder, self.changes))
            anybody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", program, "doctor", "--config", file]
            self.assertIn("run it as root", self.lab.run("edge", anybody, check=False).stdout)
            self.assertIs(json.loads(self.lab.run("edge", [*anybody, "--json"], check=False).stdout)["complete"], False)

    def test_a_settings_file_that_is_wrong(self):
        done = self.asked(nonsense=1)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, r"sipward\.yaml:\d+:\d+: ")


class Running(DoctorTest):
    """Beside a daemon, which tells what it sees."""

    def started(self, **changes):
        daemon = Sipward(self.lab, self.program, **changes)
        self.addCleanup(daemon.__exit__)
        return daemon

    def test_a_healthy_daemon(self):
        daemon = self.started()
        with self.honest_phones():
            self.assert_healthy(daemon=daemon)
        self.edge("nft add element inet sipward blocked_v4 { 203.0.113.10 }")  # a foreign block is taken out at once
        self.comes_to(set(), daemon)
        self.assertEqual(daemon.in_set("blocked_v4"), set())

    def test_off_and_learning(self):
        daemon = self.started(trust={"learning": "24h"})
        self.assert_found("learning", "sipward arm", daemon=daemon)
        daemon.ask("arm")
        self.assert_healthy(daemon=daemon)
        daemon.ask("off")
        self.assert_found("off", "sipward on", daemon=daemon)
        daemon.ask("on")
        self.assert_healthy(daemon=daemon)

    def test_a_table_that_somebody_else_holds(self):
        daemon = self.started()
        with subprocess.Popen(self.lab.inside("edge", ["nft", "-i"]), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as owner:
            owner.stdin.write("delete table inet sipward; add table inet sipward { flags owner; }\n")
            owner.stdin.flush()
            self.comes_to({"nftables"}, daemon)
            self.assert_found("nftables", "journalctl", daemon=daemon)
        self.comes_to(set(), daemon, 15)

    def test_the_remedy_for_a_port_that_is_sent_on(self):
        self.edge("nft add table ip admin { chain nat { type nat hook prerouting priority dstnat; udp dport 5080 redirect to :5060; }; }")
        self.addCleanup(self.edge, "nft delete table ip admin")
        daemon = self.started()
        self.scan("198.51.100.81", 5080)
        self.assertFalse(daemon.holds("198.51.100.81", seconds=1))
        self.assert_found("redirect", "add 5080 to sip.ports", daemon=daemon)
        daemon.settings.write_text(settings(daemon.dir, {"sip": {"ports": [5060, 5080], "servers": [SERVER_V4, SERVER_V6]}}))
        daemon.ask("reload")
        self.scan("198.51.100.82", 5080)
        self.assertTrue(daemon.holds("198.51.100.82"))
        self.assert_healthy(daemon=daemon)

    def scan(self, source, port):
        with self.lab.attacks.socket(source) as sender:
            for _ in range(3):
                sender.sendto(self.lab.attacks.request(source, SCANNER), (SERVER_V4, port))

    def test_a_full_disk(self):
        disk = self.disk("size=2m")
        daemon = self.started(state={"path": f"{disk}/sipward.db"})
        self.fill(disk)
        for host in range(60):
            daemon.ask("block", f"198.18.7.{host + 1}", "--for", "10m")
        self.comes_to({"state", "files"}, daemon)
        self.assertIn("is full", self.findings(daemon=daemon)["files"])
        (disk / "filler").unlink()
        self.comes_to(set(), daemon, 30)

    def test_half_made_checksums_of_a_virtual_device_are_no_fault(self):
        """Wrong ones are told by NICs only; tests/doctor_test.cpp has those."""
        daemon = self.started()
        self.lab.run("net", "ethtool -K o0 tx on".split())
        self.addCleanup(self.lab.run, "net", "ethtool -K o0 tx off".split())
        send_keepalives(self.lab, "198.51.100.20", 1200)
        self.assertTrue(wait_until(lambda: daemon.ask("status")["received"] >= 1200, 5))
        self.assert_healthy(daemon=daemon)

    def test_more_than_can_be_read(self):
        daemon = self.started(allow=["198.51.100.20"])
        send_keepalives(self.lab, "198.51.100.20", 2000, train=20)
        daemon.child.send_signal(signal.SIGSTOP)
        try:
            send_keepalives(self.lab, "198.51.100.20", 60_000, train=40)
        finally:
            daemon.child.send_signal(signal.SIGCONT)
        self.assertTrue(wait_until(lambda: daemon.ask("status")["lost"]["rx"] > 1000, 5), daemon.ask("status")["lost"])
        self.assert_found("lost_packets", "cores", daemon=daemon)

    def test_something_in_front_that_hides_the_phones(self):
        daemon = self.started()
        self.assertEqual(Phones(self.lab, ["203.0.113.40"] * 30, rate=30, count=30, natted=True).wait(), (30, 0))
        self.comes_to({"in_front"}, daemon)
        self.assertRegex(self.findings(daemon=daemon)["in_front"], r"(\d+) of \1 registered users come from 203\.0\.113\.40")

    def test_answers_that_leave_another_way(self):
        daemon = self.started()
        net, edge = self.lab.namespace("net"), self.lab.namespace("edge")
        for command in (f"ip link add o2 netns {net} type veth peer name e2 netns {edge}", f"ip -n {net} addr add 10.9.0.1/24 dev o2",
                        f"ip -n {edge} addr add 10.9.0.2/24 dev e2", f"ip -n {net} link set o2 up", f"ip -n {edge} link set e2 up",
                        f"ip -n {edge} route add 198.51.100.0/24 via 10.9.0.1"):
            subprocess.run(command.split(), check=True)
        self.addCleanup(self.edge, "ip link del e2")
        for _ in range(12):  # a minute: a server that starts with us takes less
            for host in range(25):
                self.lab.attacks.flood(f"198.51.100.{100 + host}", count=1, per_second=1000)
            time.sleep(5.2)
        self.comes_to({"one_direction"}, daemon)
        self.assert_found("one_direction", "sip.servers", daemon=daemon)

    def test_an_interface_that_was_made_anew(self):
        made = ["ip link add out1 type veth peer name out2", "ip link set out1 up", "ip link set out2 up"]
        with self.undone(made, []):
            daemon = self.started(ports={"outside": ["eth1", "out1"]})
        self.assert_healthy(daemon=daemon)
        self.edge("ip link del out1")
        self.comes_to({"interface_gone", "interface"}, daemon)
        with self.undone(made, []):
            self.addCleanup(self.edge, "ip link del out1")
        self.comes_to({"interface_gone"}, daemon)
        self.assert_found("interface_gone", "restart", daemon=daemon)


class RunningInline(DoctorTest):
    """Inline between eth1 and a TAP on which the server's addresses stand meanwhile."""
    changes = {"mode": "inline", "ports": {"outside": "eth1", "inside": "tap:sip0"}, "memory": {"hugepages": "off"}}

    def setUp(self):
        self.edge("ip addr flush dev eth1")
        self.edge("ethtool -K eth1 gro on")  # as most hosts have it
        self.addCleanup(self.addresses_on, "eth1")
        self.addCleanup(self.edge, "ethtool -K eth1 gro off")

    def addresses_on(self, device):
        for words in (f"ip addr replace {SERVER_V4}/24 dev {device}", f"ip addr replace {SERVER_V6}/64 dev {device} nodad",
                      f"ip route replace default via {GATEWAY_V4}"):
            self.edge(words)
        self.lab.run("net", "ip neigh flush all".split())

    def started(self):
        daemon = Sipward(self.lab, self.program, **self.changes)
        self.addCleanup(daemon.__exit__)
        self.addresses_on("sip0")
        return daemon

    def test_offloads_switched_on_again(self):
        self.assert_healthy()  # GRO is on, and the daemon will see to it
        daemon = self.started()
        self.assert_healthy(daemon=daemon)
        with self.undone(["ethtool -K eth1 gro on"], ["ethtool -K eth1 gro off"]):
            self.assert_found("offloads", "ethtool -K eth1 rx-gro off", daemon=daemon)
        self.assert_healthy(daemon=daemon)

    def test_frames_that_are_too_long(self):
        daemon = self.started()
        self.lab.run("net", "ethtool -K o0 tx on gso on tx-udp-segmentation on".split())
        try:
            send_keepalives(self.lab, "198.51.100.20", 20, size=1400, train=10)
        finally:
            self.lab.run("net", "ethtool -K o0 tx off".split())
        self.comes_to({"too_long"}, daemon)
        self.assert_found("too_long", "tso off", daemon=daemon)


if __name__ == "__main__":
    main()
