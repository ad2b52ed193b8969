# SPDX-License-Identifier: GPL-2.0-or-later
"""On what it was measured, for every file of results."""
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"


def output(*command):
    try:
        return subprocess.run(command, text=True, capture_output=True, cwd=ROOT, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def facts(program):
    """CPU, kernel, compiler, commit, and what else ran on it."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    changed = output("git", "-c", f"safe.directory={ROOT}", "status", "--porcelain", "--untracked-files=no")
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu[1] if cpu else platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
        "kernel": platform.release(), "compiler": output("c++", "--version").split("\n", maxsplit=1)[0],
        "commit": output("git", "-c", f"safe.directory={ROOT}", "rev-parse", "--short", "HEAD") + (" and changes" if changed else ""),
        "program": output(program, "version").split("\n", maxsplit=1)[0],
    }


def write(name, about, **results):
    """bench/results/NAME.json, with the facts of when it began; its path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({"host": about, **results}, indent=1) + "\n")
    return file
