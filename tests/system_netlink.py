#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A netlink socket that errors: every call that the daemon makes to nftables fails in every way it can, and enforcement holds.

The faults are put between the real daemon and the real kernel by a library that is preloaded (lab/netlink_faults.cpp). What can be mended
at once is: nobody is told, and the block stands. What lasts is told: status says that nftables is out of sync, an alert says why, no line
of the log says "blocked"; and when it is over all of it stands, and the lines follow."""
import errno
import os
import pathlib
import subprocess
import threading
import time

from lab import Sipward
from lab.attackers import SCANNER
from lab.case import LabTest, main, measured, skip
from lab.network import wait_until

FOR_EVER = 1_000_000_000


class Netlink(LabTest):
    def started(self, **changes):
        # One second is all the time that anything here takes.
        self.faults = self.lab.dir / f"faults-{len(self.lab.children)}"
        self.faults.write_text("")
        self.number = 0
        library = pathlib.Path(self.program).parents[1] / "tests" / "netlink_faults.so"
        if not library.exists():
            skip(f"{library} is not built")
        changes.setdefault("prefix", {"offenders": 256})
        daemon = Sipward(self.lab, self.program, environment={"LD_PRELOAD": library, "SIPWARD_NETLINK_FAULTS": self.faults}, **changes)
        self.addCleanup(daemon.__exit__)
        return daemon

    def fault(self, socket, what, code, times=1, skipped=0):
        """From now on."""
        self.number += 1
        new = self.faults.with_suffix(".new")
        new.write_text(f"{self.number} {socket} {what} {code} {skipped} {times}\n")
        os.rename(new, self.faults)

    def no_fault(self):
        self.faults.write_text("")

    def happened(self):
        """How often the fault that was told last has happened."""
        done = pathlib.Path(f"{self.faults}.done")
        number, _, times = done.read_text().partition(" ") if done.exists() else ("0", "", "")
        return int(times) if number == str(self.number) else 0

    def offends(self, source):
        self.lab.attacks.flood(source, count=1, per_second=100, user_agent=SCANNER)

    def alerts(self, daemon, event):
        return [line for line in daemon.log() if f" alert - {event}" in line]

    def assert_agreed(self, daemon, sources):
        """Kernel, list and log hold the same."""
        self.assertTrue(wait_until(lambda: daemon.in_set("blocked_v4") == sources, 3), (daemon.in_set("blocked_v4") ^ sources, daemon.output()))
        self.assertEqual({block["subject"].split("/")[0] for block in daemon.ask("blocks")}, sources)
        blocked = lambda: sorted(line.split()[2].split("/")[0] for line in daemon.log() if line.split()[1] == "block")
        self.assertTrue(wait_until(lambda: blocked() == sorted(sources), 2), blocked())
        self.assertTrue(daemon.ask("status")["nft"]["in_sync"])


class Passing(Netlink):
    """Faults that are over by the next try."""

    def test_a_block_stands_whatever_goes_wrong_once_and_nobody_is_bothered(self):
        daemon = self.started()
        sources = set()
        for name, socket, what, code, times in (
                ("a signal while sending", "change", "send", errno.EINTR, 1),
                ("no room to send", "change", "send", errno.ENOBUFS, 2),
                ("no memory", "change", "send", errno.ENOMEM, 1),
                ("it would block", "change", "send", errno.EAGAIN, 2),
                ("a socket that was closed, at sending", "change", "dead", errno.EBADF, 1),
                ("a socket that is none any more", "change", "send", errno.ENOTSOCK, 1),
                ("a signal while receiving", "change", "receive", errno.EINTR, 3),
                ("the queue of answers was full", "change", "lose", errno.ENOBUFS, 1),
                ("the answer is not there yet", "change", "receive", errno.EAGAIN, 1),
                ("an acknowledgement is lost, and nobody says so", "change", "lose", 0, 1),
                ("an acknowledgement is cut off", "change", "cut", 0, 1),
                ("a datagram was longer than the room for it", "change", "lose", errno.ENOSPC, 1),
                ("receiving fails for a reason that nobody knows", "change", "receive", errno.EIO, 1),
                ("the kernel is busy, in the middle of a transaction", "change", "refuse", errno.EBUSY, 1),
                ("it wants the transaction again", "change", "refuse", errno.EAGAIN, 2),
                ("the generation has moved on", "change", "refuse", errno.ERESTART, 1),
                ("a signal in the middle of a transaction", "change", "refuse", errno.EINTR, 1),
                ("no memory in the middle of a transaction", "change", "refuse", errno.ENOMEM, 2),
                ("it says that something is there already", "change", "refuse", errno.EEXIST, 1),
                ("it says that something is gone", "change", "refuse", errno.ENOENT, 1),
                ("a message that it does not like, once", "change", "refuse", errno.EINVAL, 1),
        ):
            with self.subTest(name):
                source = f"198.51.100.{len(sources) + 1}"
                sources.add(source)
                self.fault(socket, what, code, times)
                start = time.monotonic()
                self.offends(source)
                self.assertTrue(daemon.holds(source, 2), daemon.output())
                seconds = time.monotonic() - start
                self.assertTrue(wait_until(lambda: self.happened() == times, 1), f"it happened {self.happened()} times")
                self.no_fault()
                self.assert_agreed(daemon, sources)
                self.assertLess(seconds, 1)
        self.assertEqual(self.alerts(daemon, "nft_out_of_sync"), [], daemon.output())
        self.assertEqual(self.alerts(daemon, "nft_repaired"), [], "it took its own changes for somebody else's")
        measured(f"netlink: {len(sources)} ways to fail once, {len(sources)} blocks, none lost, no alert")

    def test_what_was_dropped_is_told_whole_though_the_question_fails(self):
        daemon = self.started()
        for number, (what, code) in enumerate((("send", errno.ENOBUFS), ("lose", errno.ENOBUFS), ("lose", 0), ("cut", 0), ("dead", errno.EBADF))):
            with self.subTest(what, code=code):
                source = f"198.51.100.{number + 1}"
                self.offends(source)
                self.assertTrue(daemon.holds(source))
                self.lab.attacks.flood(source, count=20, per_second=500)
                self.fault("change", what, code)
                daemon.ask("unblock", source)
                self.assertTrue(wait_until(lambda: daemon.logged("unblock", f"{source}/32"), 2))
                self.assertGreaterEqual(int(daemon.logged("unblock", f"{source}/32")["dropped"]), 20)
                self.assertEqual(self.happened(), 1)

    def test_a_watch_that_fails_is_replaced_and_misses_nothing(self):
        daemon = self.started()
        self.offends("198.51.100.66")
        self.assertTrue(daemon.holds("198.51.100.66"))
        for what, code in (("lose", errno.ENOBUFS), ("lose", errno.ENOSPC), ("cut", 0), ("receive", errno.EINTR), ("receive", errno.EIO),
                           ("dead", errno.EBADF)):
            with self.subTest(what, code=code):
                time.sleep(0.5)  # the pace of repairs
                self.fault("watch", what, code)
                self.lab.run("edge", ["nft", "flush ruleset"])
                self.assertTrue(daemon.holds("198.51.100.66", 3), daemon.output())
                self.assertTrue(wait_until(lambda: daemon.ask("status")["nft"]["in_sync"], 2))
                self.assertEqual(self.happened(), 1)
                self.no_fault()
                time.sleep(1.2)  # another one takes the place of what hears no more
                self.lab.run("edge", ["nft", "flush set inet sipward blocked_v4"])
                self.assertTrue(daemon.holds("198.51.100.66", 1.5), "the one that took its place hears nothing")
        self.assertEqual(self.alerts(daemon, "nft_out_of_sync"), [])

    def test_looking_goes_on_after_a_fault(self):
        daemon = self.started()
        self.offends("198.51.100.66")
        self.assertTrue(daemon.holds("198.51.100.66"))
        for what, code in (("send", errno.EINTR), ("send", errno.ENOBUFS), ("receive", errno.EINTR), ("receive", errno.EAGAIN),
                           ("lose", errno.ENOBUFS), ("cut", 0), ("dead", errno.EBADF)):
            with self.subTest(what, code=code):
                time.sleep(0.5)
                self.fault("look", what, code)
                self.lab.run("edge", ["nft", "flush ruleset"])  # after its repair the frame is learnt anew
                self.assertTrue(daemon.holds("198.51.100.66", 3), daemon.output())
                self.assertTrue(wait_until(lambda: self.happened() == 1, 2))
                self.no_fault()
                self.assertTrue(daemon.ask("status")["nft"]["in_sync"])


class Lasting(Netlink):
    """Faults that last: told, and over when they are."""

    def test_it_is_told_nothing_is_lost_and_nothing_is_said_to_be_blocked_that_is_not(self):
        for name, what, code in (("sending", "send", errno.ENOBUFS), ("the kernel's word", "refuse", errno.EBUSY), ("no permission", "refuse", errno.EPERM),
                                 ("every acknowledgement", "lose", 0), ("receiving", "receive", errno.EINTR), ("a dead socket", "send", errno.EBADF)):
            with self.subTest(name):
                daemon = self.started(block={"ladder": ["1h"]})
                self.offends("198.51.100.1")
                self.assertTrue(daemon.holds("198.51.100.1"))
                self.assertTrue(wait_until(lambda: daemon.logged("block", "198.51.100.1/32"), 2))
                self.fault("change", what, code, FOR_EVER)
                self.offends("198.51.100.2")
                self.assertTrue(wait_until(lambda: self.alerts(daemon, "nft_out_of_sync"), 3), daemon.output())
                self.offends("198.51.100.3")
                self.offends("198.51.100.4")
                self.assertTrue(wait_until(lambda: len(daemon.ask("blocks")) == 4, 2))
                self.assertFalse(daemon.ask("status")["nft"]["in_sync"])
                self.assertEqual(daemon.command("unblock", "198.51.100.4").returncode, 1, "it cannot be lifted for certain, and said so")
                refused = daemon.command("block", "198.51.100.5")
                self.assertEqual(refused.returncode, 1)
                self.assertIn("nftables refuses", refused.stderr)
                time.sleep(1.2)
                self.assertEqual([line.split()[2] for line in daemon.log() if line.split()[1] in ("block", "unblock")], ["198.51.100.1/32"])
                cpu = daemon.cpu_seconds()
                time.sleep(1)
                self.assertLess(daemon.cpu_seconds() - cpu, 0.6, "it wears itself out")
                self.no_fault()
                start = time.monotonic()
                self.assertTrue(wait_until(lambda: self.alerts(daemon, "nft_in_sync_again"), 3), daemon.output())
                seconds = time.monotonic() - start
                self.assert_agreed(daemon, {f"198.51.100.{host}" for host in (1, 2, 3, 5)})
                self.assertIsNone(daemon.logged("unblock", "198.51.100.4/32"), "it never was blocked")
                self.assertEqual(len(self.alerts(daemon, "nft_out_of_sync")), 1)
                self.assertEqual(self.alerts(daemon, "nft_repaired"), [])
                measured(f"netlink, {name} fails for good: whole {seconds:.2f} s after its end")
                daemon.stop()

    def test_what_was_decided_meanwhile_outlives_a_kill(self):
        daemon = self.started(nftables={"on_stop": "keep"})
        self.fault("change", "send", errno.ENOBUFS, FOR_EVER)
        self.offends("198.51.100.2")
        self.assertTrue(wait_until(lambda: len(daemon.ask("blocks")) == 1, 2))
        time.sleep(0.3)
        daemon.child.kill()
        daemon.child.wait(10)
        second = self.started(state={"path": str(daemon.state)})
        self.assertTrue(second.holds("198.51.100.2", 1))

    def test_off_and_on_wait_until_it_is_over(self):
        daemon = self.started()
        self.offends("198.51.100.1")
        self.assertTrue(daemon.holds("198.51.100.1"))
        self.fault("change", "send", errno.ENOBUFS, FOR_EVER)
        daemon.command("off")
        self.assertFalse(daemon.ask("status")["nft"]["in_sync"])
        self.assertTrue(self.alerts(daemon, "nft_out_of_sync"))
        self.no_fault()
        self.assertTrue(wait_until(lambda: not daemon.table(), 3))
        self.assertTrue(self.alerts(daemon, "nft_in_sync_again"))
        daemon.command("on")
        self.assertTrue(daemon.holds("198.51.100.1"))


class Generation(Netlink):
    """Others change nftables all the time: the generation is never the same twice."""

    def test_blocks_stand_beside_a_script_that_never_stops(self):
        daemon = self.started()
        stop = threading.Event()

        def others():
            script = "add table inet other; add set inet other s { type ipv4_addr; }; add element inet other s { 192.0.2.1 }; delete table inet other\n"
            while not stop.is_set():
                subprocess.run(self.lab.inside("edge", ["nft", "-f", "-"]), input=script * 50, text=True, capture_output=True)

        threads = [threading.Thread(target=others, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            sources = {f"198.51.100.{host}" for host in range(1, 61)}
            for source in sorted(sources):
                self.offends(source)
                time.sleep(0.07)  # the log has twenty lines a second
            self.assert_agreed(daemon, sources)
            self.lab.run("edge", ["nft", "delete element inet sipward blocked_v4 { 198.51.100.7 }"])
            self.assertTrue(daemon.holds("198.51.100.7", 3), daemon.output())
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assert_agreed(daemon, sources)
        self.assertEqual(self.alerts(daemon, "nft_out_of_sync"), [])


if __name__ == "__main__":
    main()
