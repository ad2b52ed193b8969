# SPDX-License-Identifier: GPL-2.0-or-later
"""One cell of the comparison: a defence, an attack, and the honest load beside them; what came of it."""
import csv
import time

from lab import EXCHANGE, Callees, Calls, Kamailio, Phones

from .place import Watch, block_time_s

HOMES = [f"203.0.113.{host}" for host in range(10, 30)]
CALLERS, CALLERS_USER = [f"203.0.113.{host}" for host in range(40, 50)], 1140
CALLEES, CALLEES_USER = [f"203.0.113.{host}" for host in range(200, 210)], 1190
REGISTRATIONS_PER_S, CALLS_PER_S = 10, 4
HONEST_NET = "203.0.113."
# Four processes, each of which waits two milliseconds for the subscriber database: 2,000 REGISTERs a second at most.
EXCHANGE_WORDS = {"LAB_CHILDREN": 4, "LAB_LOOKUP_US": 2000}
TRACED = ("-trace_rtt", "-rtt_freq", 1, "-timer_resol", 1)


class Lengths:
    """Seconds: of what goes before the attack, of the attack, and how long a phone waits for each answer."""

    def __init__(self, before, attack, patience):
        self.before, self.attack, self.patience = before, attack, patience


def honest(place, lengths):
    """Phones at home register, and others call: a try has failed if an answer is not there in time."""
    callers = [(address, CALLERS_USER + i, CALLEES_USER + i) for i, address in enumerate(CALLERS)]
    return [Phones(place, HOMES, rate=REGISTRATIONS_PER_S, patience_s=lengths.patience, options=TRACED),
            Calls(place, callers, rate=CALLS_PER_S, patience_s=lengths.patience, options=TRACED)]


def measure(place, defence, attack, lengths):
    """Plays one cell from the start of the server to its end; the figures, ready for JSON."""
    place.count_anew()
    for log in place.dir.glob("kamailio.log"):
        log.unlink()
    already = len(place.children)
    try:
        defence.before_server()
        Kamailio(place, EXCHANGE, {**EXCHANGE_WORDS, **defence.words}, defence.switches)
        defence.start()
        Callees(place, CALLEES, CALLEES_USER)
        for load in honest(place, lengths) if lengths.before else ():  # whom it has seen before
            time.sleep(lengths.before / 2)
            load.stop(lengths.patience + 5)
        return played(place, defence, attack, lengths)
    finally:
        for child in reversed(place.children[already:]):
            place.stop(child)
        defence.stop()


def played(place, defence, attack, lengths):
    watch = Watch(place)
    server_cpu, defence_cpu, start = place.server_cpu_s(), defence.cpu_s(), time.monotonic()
    loads = honest(place, lengths)
    time.sleep(lengths.attack / 5)
    started = attack.start(place, lengths.attack, lengths.patience)
    time.sleep(lengths.attack)
    took = time.monotonic() - start
    server_cpu, defence_cpu = place.server_cpu_s() - server_cpu, defence.cpu_s() - defence_cpu
    returned = attack.end(place, started)
    loads += [returned] if returned else []
    done = [load.stop(4 * lengths.patience + 10) for load in loads]
    samples = watch.stop()
    sent, reached = place.honest("net"), place.honest("edge")
    lost = {address: count - reached.get(address, 0) for address, count in sent.items() if count > reached.get(address, 0)}
    banned = {address for address in defence.banned() if address.startswith(HONEST_NET)}
    _, hostile_sent, hostile_reached, hostile_answered = samples[-1]
    return {
        "defence": defence.name, "attack": attack.key, "title": attack.title, "seconds": took,
        "honest": {"succeeded": sum(ok for ok, _ in done), "failed": sum(bad for _, bad in done), "lost_datagrams": sum(lost.values()),
                   "blocked": sorted(banned | set(lost))},
        "setup_ms": sorted(ms for load in loads for ms in setup_times_ms(place, load)),
        "over_time": over_time(loads),
        "hostile": {"sent": hostile_sent, "reached": hostile_reached, "answered": hostile_answered, "block_s": block_time_s(samples)},
        "cpu": {"server": server_cpu / took, "defence": None if defence.in_kernel else defence_cpu / took},
    }


def setup_times_ms(place, load):
    """From the first datagram of a registration or call to its 200, of those that succeeded."""
    found = []
    for file in place.dir.glob(f"*_{load.child.pid}_rtt.csv"):
        with file.open() as text:
            found += [float(row["response_time_ms"]) for row in csv.DictReader(text, delimiter=";")]
    return found


def over_time(loads):
    """(succeeded, failed) that ended in each second, all loads together."""
    seconds = []
    for load in loads:
        for i, row in enumerate(load.rows()):
            if i == len(seconds):
                seconds.append([0, 0])
            seconds[i][0] += int(row["SuccessfulCall(P)"])
            seconds[i][1] += int(row["FailedCall(P)"])
    return seconds
