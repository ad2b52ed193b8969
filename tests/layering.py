#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds the includes to the order of the layers: a folder includes itself and those before it, never those after, and each
foreign library has one home. Checks itself first, on wrong includes that it must find."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS = ["sip", "policy", "config", "dataplane", "daemon"]
# Foreign headers and the one layer that may name them; in a header open to other layers, none may be named at all.
FOREIGN = {
    r"yaml-cpp/": "config",
    r"rte_\w+\.h": "dataplane",
    r"(libnftnl|libmnl|spdlog|nlohmann|CLI|systemd|prometheus)/|sqlite3\.h|cap-ng\.h|pcap": "daemon",
}
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^">]+)[">]', re.M)


def faults(layer, name, text):
    """What is wrong with the includes of one file: a list of sentences."""
    found = []
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    for included in INCLUDE.findall(text):
        first = included.split("/")[0]
        if first in LAYERS and first not in allowed:
            found.append(f"{layer}/{name} includes {included}: {first} lies above {layer}")
        for pattern, home in FOREIGN.items():
            if not re.match(pattern, included):
                continue
            if layer != home:
                found.append(f"{layer}/{name} includes {included}: that library lives in {home}/ only")
            elif name.endswith(".h") and not private(text):
                found.append(f"{layer}/{name} is open to other files and names {included}: keep it in a .cpp or a private header")
    return found


def private(text):
    """A header that says it is private to its layer: other layers may not include it."""
    return "// Private to this layer." in text


def outside_uses_of_private(files):
    names = {f"{layer}/{name}" for layer, name, text in files if name.endswith(".h") and private(text)}
    return [f"{layer}/{name} includes {i}, which is private to its layer" for layer, name, text in files
            for i in INCLUDE.findall(text) if i in names and not i.startswith(layer + "/")]


def self_check():
    assert faults("sip", "a.h", '#include "policy/judge.h"\n'), "an upward include is not found"
    assert faults("policy", "a.cpp", "#include <yaml-cpp/yaml.h>\n"), "a foreign library out of its home is not found"
    assert faults("dataplane", "a.h", "#include <rte_mbuf.h>\n"), "a foreign library in an open header is not found"
    assert not faults("dataplane", "a.h", "// Private to this layer.\n#include <rte_mbuf.h>\n")
    assert not faults("daemon", "a.cpp", '#include "sip/message.h"\n#include <libmnl/libmnl.h>\n')
    assert outside_uses_of_private([("dataplane", "p.h", "// Private to this layer.\n"), ("daemon", "x.cpp", '#include "dataplane/p.h"\n')])


def main():
    self_check()
    files = [(layer, path.name, path.read_text()) for layer in LAYERS for path in sorted((ROOT / layer).glob("*.[hc]*")) if path.suffix in (".h", ".cpp")]
    assert len(files) > 20, "the layers' files were not found"
    wrong = [fault for file in files for fault in faults(*file)] + outside_uses_of_private(files)
    print("\n".join(wrong) or f"{len(files)} files in {len(LAYERS)} layers, no arrow upward")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
