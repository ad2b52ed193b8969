#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The engineer's question: parser, source table, dataplane and the kernel's ways, each beside its peers. As root (bench/run builds them).

  bench/engineer.py BUILD-FOLDER [--quick]

Prints what each bench prints, and leaves its figures in bench/results/engineer.json.
"""
import argparse
import pathlib
import re
import subprocess
import sys

from comparison import host

FIGURE = re.compile(r"^(\S.*?)\s{2,}([\d.]+) ns\s+([\d.]+) \.\. ([\d.]+)")
RATIO = re.compile(r"^  (\S.*?)\s+/ (\S.*?)\s{2,}([\d.]+)(?:\s+\(([\d.]+) \.\. ([\d.]+)\))?")
KEYS = re.compile(r"^(\d+) keys in")
HERE = pathlib.Path(__file__).resolve().parent


def commands(build, quick):
    """Name -> the command line, and how long it may take, in seconds."""
    benches = build / "bench"
    if quick:
        return {"parser": ([benches / "parser", "2"], 120), "source table": ([benches / "source_table", "2", "1e5"], 120),
                "dataplane": ([benches / "dataplane", "1", "30", "first look, 10^5", "blocked, 10^5"], 180)}
    return {"parser": ([benches / "parser", "15"], 600), "source table": ([benches / "source_table", "5", "1e3", "1e4", "1e5", "1e6", "1e7"], 900),
            "dataplane": ([benches / "dataplane", "5", "100"], 900),
            "kernel": ([sys.executable, "-B", HERE / "kernel_paths.py", "5", benches / "dataplane"], 600)}


def figures(text):
    """What a bench printed, as figures and ratios, each with its median and spread."""
    found, ratios, keys = [], [], None
    for line in text.splitlines():
        if about := KEYS.match(line):
            keys = int(about[1])
        elif figure := FIGURE.match(line):
            found.append({"name": figure[1], "keys": keys, "median_ns": float(figure[2]), "spread_ns": [float(figure[3]), float(figure[4])]})
        elif ratio := RATIO.match(line):
            spread = [float(ratio[4]), float(ratio[5])] if ratio[4] else None
            ratios.append({"name": ratio[1], "beside": ratio[2], "keys": keys, "median": float(ratio[3]), "spread": spread})
    return {"figures": found, "ratios": ratios}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    results, failed, about = {}, [], host.facts(options.build / "daemon" / "sipward")
    for name, (command, seconds) in commands(options.build.resolve(), options.quick).items():
        print(f"\n=== {name}", flush=True)
        try:
            done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE, timeout=seconds, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            failed.append(f"{name}: {error}")
            continue
        print(done.stdout, end="", flush=True)
        results[name] = figures(done.stdout)
        if not results[name]["figures"]:
            failed.append(f"{name}: it printed no figures")
    print(host.write("engineer", about, quick=options.quick, benches=results))
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
