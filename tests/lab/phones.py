# SPDX-License-Identifier: GPL-2.0-or-later
"""Honest phones: SIPp with digest authentication, each phone with an address of its own or many behind one; they register and call."""
import csv
import pathlib
import signal

from .network import SERVER_V4

HERE = pathlib.Path(__file__).parent
USER_AGENTS = ("Yealink SIP-T46S 66.86.0.15", "snomD785/10.1.175.16", "Grandstream GXP2170 1.0.11.39", "Fanvil X6U 2.12.1.3", "baresip v1.0.0",
               "Linphone Desktop/4.4.10", "MicroSIP/3.21.3", "PolycomVVX-VVX_411-UA/5.9.6")


class Load:
    """One SIPp at work in the background: every phone in turn, so many times a second, until `stop` or until `count` times."""
    SCENARIO = ""

    def __init__(self, network, phones, rate, count=None, natted=False, patience_s=None, options=()):
        """`phones`: (address, user, number to call). `natted`: every try from a port of its own, as routers give them; else all from 5060.
        After `patience_s` without the answer awaited a try has failed; None: when its retransmissions are used up."""
        self.statistics = network.dir / f"{self.SCENARIO}-{len(network.children)}.csv"
        users = self.statistics.with_suffix(".users")
        users.write_text("SEQUENTIAL\n" + "".join(
            f"{user};[authentication username={user} password=secret-{user}];{USER_AGENTS[i % len(USER_AGENTS)]};{address};{called}\n"
            for i, (address, user, called) in enumerate(phones)))
        text = (HERE / f"{self.SCENARIO}.xml").read_text()
        scenario = network.dir / f"{self.SCENARIO}{'-natted' if natted else ''}.xml"
        scenario.write_text(text if natted else text.replace("[local_port]", "5060"))  # which -t ui calls 0
        # One socket per address (-t ui), the address from the users' file; no console, statistics once a second.
        sockets = ["-t", "un"] if natted else ["-t", "ui", "-ip_field", "3", "-p", "5060"]
        command = ["sipp", f"{SERVER_V4}:5060", "-sf", scenario, "-inf", users, *sockets, "-i", phones[0][0],
                   "-r", rate, "-max_socket", 1000, "-nostdin", "-trace_stat", "-stf", self.statistics, "-fd", "1", "-trace_err", *options]
        command += ["-m", count] if count else []
        command += ["-recv_timeout", int(patience_s * 1000), "-default_behaviors", "all,-bye"] if patience_s else []
        self.child = network.spawn("net", command, self.statistics.with_suffix(".log").name)

    def stop(self, seconds=10):
        """Lets what is under way finish; (succeeded, failed)."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGUSR1)
        self.child.wait(seconds)
        return self.so_far()

    def wait(self, seconds=60):
        """Waits for the last of `count`; (succeeded, failed)."""
        self.child.wait(seconds)
        return self.so_far()

    def rows(self):
        """What SIPp wrote down, once a second."""
        if not self.statistics.exists():
            return []
        with self.statistics.open() as text:
            return [row for row in csv.DictReader(text, delimiter=";") if row.get("FailedCall(C)")]

    def so_far(self):
        """(succeeded, failed), at most a second old while SIPp runs."""
        rows = self.rows()
        return (int(rows[-1]["SuccessfulCall(C)"]), int(rows[-1]["FailedCall(C)"])) if rows else (0, 0)


class Phones(Load):
    """Registrations: one every 1/rate seconds."""
    SCENARIO = "register"

    def __init__(self, network, addresses, rate=5, count=None, first_user=1100, expires_s=300, **options):
        self.addresses = list(addresses)
        phones = [(address, first_user + i, "") for i, address in enumerate(self.addresses)]
        options["options"] = ["-key", "expires", expires_s, *options.get("options", ())]
        super().__init__(network, phones, rate, count, **options)


class Calls(Load):
    """Calls between phones of the exchange (`Kamailio(settings=EXCHANGE)`), each from INVITE to BYE."""
    SCENARIO = "call"


class Callees:
    """Phones that answer every call to their numbers: registered for an hour, then listening."""

    def __init__(self, network, addresses, first_user):
        self.users = [first_user + i for i in range(len(addresses))]
        if Phones(network, addresses, rate=50, count=len(addresses), first_user=first_user, expires_s=3600).wait() != (len(addresses), 0):
            raise RuntimeError(f"{first_user} and those after it could not register")
        self.children = [network.spawn("net", ["sipp", "-sf", HERE / "callee.xml", "-i", address, "-p", 5060, "-nostdin"], f"callee-{user}.log")
                         for address, user in zip(addresses, self.users)]
