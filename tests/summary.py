#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the result files of ctest (JUnit): says what was measured, and which tests were skipped, and why.

With CI=true a skipped test is a failure, unless it needs the recordings that SIPWARD_DATA names and there are none, or a container with a
systemd of its own, and none can be booted.
"""
import os
import pathlib
import sys
import xml.etree.ElementTree


def main():
    forbidden = 0
    for file in sys.argv[1:]:
        build = pathlib.Path(file).parent.name
        for test in xml.etree.ElementTree.parse(file).iter("testcase"):
            output = test.findtext("system-out", "")
            for line in output.splitlines():
                if line.startswith("measured: "):
                    print(f"{build}: {line}")
            if test.get("status") in ("notrun", "disabled"):
                reason = (output.strip().splitlines() or ["no reason given"])[-1]
                print(f"{build}: {test.get('name')} did not run: {reason}")
                forbidden += not excused(output)
    if forbidden and os.environ.get("CI"):
        sys.exit(f"{forbidden} skipped tests, and CI allows none")


def excused(output):
    no_data = "SIPWARD_DATA" in output and not os.path.isdir(os.environ.get("SIPWARD_DATA", ""))
    return no_data or "no container can be booted here" in output


if __name__ == "__main__":
    main()
