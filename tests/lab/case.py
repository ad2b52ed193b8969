# SPDX-License-Identifier: GPL-2.0-or-later
"""What every whole-system test shares: `tests/system_X.py PROGRAM [TEST…]`, as root."""
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import time
import unittest

from . import Lab, Phones, Sipward

TOOLS = ("kamailio", "sipp", "svmap", "svwar", "svcrack", "nft", "ip", "ethtool", "setpriv", "ping")
SKIPPED = 77  # what ctest takes for "skipped"


class LabTest(unittest.TestCase):
    """A test in the laboratory of this run."""
    lab: Lab
    program: str

    @classmethod
    def sipward(cls, **changes):
        """Starts the program for all tests of this class."""
        daemon = Sipward(cls.lab, cls.program, **changes)
        cls.addClassCleanup(daemon.__exit__)
        return daemon

    @contextlib.contextmanager
    def honest_phones(self, addresses=tuple(f"203.0.113.{host}" for host in range(10, 30)), rate=10):
        """Phones register before, during and after what happens inside: every one succeeds, and not one datagram of theirs is lost."""
        before = [self.lab.sent(address) - self.lab.reached(address) for address in addresses]
        phones = Phones(self.lab, addresses, rate)
        time.sleep(1)
        yield
        time.sleep(1)
        succeeded, failed = phones.stop()
        self.assertGreater(succeeded, rate, "honest phones did not register at all")
        self.assertEqual(failed, 0, f"honest registrations failed, beside {succeeded} that succeeded")
        after = [self.lab.sent(address) - self.lab.reached(address) for address in addresses]
        self.assertEqual(before, after, "datagrams of honest phones were lost")


def main():
    """Runs the tests of the calling file."""
    if os.geteuid():
        skip("it makes network namespaces: run it as root")
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        skip(f"not installed: {', '.join(missing)} (tests/packages names what is needed)")
    if len(sys.argv) < 2 or not os.access(sys.argv[1], os.X_OK):
        sys.exit(f"usage: {sys.argv[0]} PROGRAM [TEST…]")
    LabTest.program = os.path.abspath(sys.argv.pop(1))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    subject = pathlib.Path(sys.argv[0]).stem.removeprefix("system_")
    with Lab(f"swl-{subject}") as LabTest.lab:  # laboratories of several files stand side by side
        result = unittest.main(verbosity=2, exit=False).result
    if result.skipped and os.environ.get("CI"):
        sys.exit("CI allows no skipped test")
    sys.exit(not result.wasSuccessful())


def measured(text):
    """Prints a figure where tests/run finds it among all the output."""
    print(f"\nmeasured: {text}", flush=True)


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)
