# SPDX-License-Identifier: GPL-2.0-or-later
"""Honest phones: SIPp with digest authentication, each phone with an address of its own or all behind one."""
import csv
import pathlib
import signal

from .network import SERVER_V4

SCENARIO = pathlib.Path(__file__).with_name("register.xml")
USER_AGENTS = ("Yealink SIP-T46S 66.86.0.15", "snomD785/10.1.175.16", "Grandstream GXP2170 1.0.11.39", "Fanvil X6U 2.12.1.3", "baresip v1.0.0",
               "Linphone Desktop/4.4.10", "MicroSIP/3.21.3", "PolycomVVX-VVX_411-UA/5.9.6")


class Phones:
    """Registrations going on in the background, one every 1/rate seconds, until `stop` or until there have been `count` of them."""

    def __init__(self, network, addresses, rate=5, count=None, first_user=1100):
        self.addresses = list(addresses)
        self.statistics = network.dir / f"phones-{len(network.children)}.csv"
        users = self.statistics.with_suffix(".users")
        users.write_text("SEQUENTIAL\n" + "".join(
            f"{first_user + i};[authentication username={first_user + i} password=secret-{first_user + i}];{USER_AGENTS[i % len(USER_AGENTS)]};{address}\n"
            for i, address in enumerate(self.addresses)))
        # One socket per address (-t ui), the address from the users' file; no console, statistics once a second.
        command = ["sipp", f"{SERVER_V4}:5060", "-sf", SCENARIO, "-inf", users, "-t", "ui", "-ip_field", "3", "-i", self.addresses[0], "-p", "5060",
                   "-r", rate, "-max_socket", 1000, "-nostdin", "-trace_stat", "-stf", self.statistics, "-fd", "1"]
        self.child = network.spawn("net", command + (["-m", count] if count else []), self.statistics.with_suffix(".log").name)

    def stop(self, seconds=10):
        """Lets the registrations under way finish; (succeeded, failed)."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGUSR1)
        self.child.wait(seconds)
        return self.so_far()

    def wait(self, seconds=60):
        """Waits for the last of `count`; (succeeded, failed)."""
        self.child.wait(seconds)
        return self.so_far()

    def so_far(self):
        """(succeeded, failed), at most a second old while SIPp runs."""
        if not self.statistics.exists():
            return 0, 0
        with self.statistics.open() as text:
            rows = [row for row in csv.DictReader(text, delimiter=";") if row.get("FailedCall(C)")]
        return (int(rows[-1]["SuccessfulCall(C)"]), int(rows[-1]["FailedCall(C)"])) if rows else (0, 0)
