#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The operator's question: what does each defence do for honest phones, and against whom? As root (bench/run builds and calls it).

  bench/compare.py PROGRAM [--quick] [--repeats N] [--attacks KEY,…] [--defences WORD,…] [--name NAME]

Prints a table for each attack, and leaves every figure in bench/results/NAME.json.
"""
import argparse
import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))

from comparison import attacks, cell, defences, host, table  # noqa: E402 - tests/lab must be found first
from comparison.place import Place  # noqa: E402

QUICK = ("scan", "guess", "flood", "office")
LENGTHS = cell.Lengths(before=2, attack=10, patience=4)
QUICK_LENGTHS = cell.Lengths(before=0, attack=2, patience=1.5)


def chosen(options):
    """(attacks, defences) that these options ask for."""
    keys = options.attacks.split(",") if options.attacks else QUICK if options.quick else [a.key for a in attacks.OPERATORS]
    found = [attack for attack in attacks.OPERATORS + attacks.FURTHER if attack.key in keys]
    words = options.defences.split(",") if options.defences else [""]
    ours = [defence for defence in defences.ALL if any(word in defence.name for word in words)]
    if not found or not ours:
        sys.exit(f"attacks: {', '.join(a.key for a in attacks.OPERATORS + attacks.FURTHER)}; defences: {', '.join(d.name for d in defences.ALL)}")
    return found, ours


def play(program, options):
    """All cells, round after round, so that a busy machine hurts all alike; written down after each round."""
    found, ours = chosen(options)
    lengths = QUICK_LENGTHS if options.quick else LENGTHS
    cells, start, about = [], time.monotonic(), host.facts(program)
    with Place("swp") as place:
        total = options.repeats * len(found) * len(ours)
        for done in range(options.repeats):
            for attack in found:
                for defence in ours:
                    cells.append(cell.measure(place, defence(place, program), attack, lengths))
                    print(f"  {len(cells)} of {total}, {time.monotonic() - start:.0f} s: {attack.title}, {defence.name}: "
                          f"{table.success(cells[-1]):.1f} % of honest tries succeeded", file=sys.stderr, flush=True)
            file = host.write(options.name, about, quick=options.quick, repeats=done + 1, summaries=table.summaries(cells), cells=cells)
    return cells, file


def wrong(found):
    """What a run of any length must show, whatever the machine: sipward blocks no honest address, and stops what it has always stopped."""
    complaints = []
    for s in found:
        if not s["defence"].startswith("sipward"):
            continue
        where = f"{s['defence']}, {s['title']}"
        if s["honest_blocked"]:
            complaints.append(f"{where}: {s['honest_blocked']} honest addresses were blocked")
        if s["attack"] in ("scan", "guess", "flood") and s["hostile_sent"] > 200 and s["hostile_reached"] > 0.5 * s["hostile_sent"]:
            complaints.append(f"{where}: {s['hostile_reached']:.0f} of {s['hostile_sent']:.0f} hostile datagrams came through")
    return complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--quick", action="store_true", help="four attacks, two seconds each, once")
    parser.add_argument("--repeats", type=int, default=None, help="default 3; quick 1")
    parser.add_argument("--attacks")
    parser.add_argument("--defences")
    parser.add_argument("--name", default="operator", help="of the file of results")
    options = parser.parse_args()
    options.repeats = options.repeats or (1 if options.quick else 3)
    if os.geteuid():
        sys.exit("it makes network namespaces: run it as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    program = os.path.abspath(options.program)
    cells, file = play(program, options)
    found = table.summaries(cells)
    print(table.markdown(found))
    print(f"\n{table.cases(found)}\n\n{file}")
    if complaints := wrong(found):
        sys.exit("\n".join(complaints))


if __name__ == "__main__":
    main()
