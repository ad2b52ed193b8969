#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""More packets than sender.py can make: REGISTERs as a phone sends them, from many addresses in turn, at any pace a core can bear.

  storm.py RATE SECONDS SOURCES SERVER_MAC DEVICE    prints how many it sent

Frames are made beforehand and go out twenty a system call, past routing. Priority and CPU are whoever's who starts it."""
import ipaddress
import socket
import sys
import time

sys.path.insert(0, __file__.rsplit("/", 2)[0])
from lab.raw import Frames, udp_frame  # noqa: E402
from lab.sender import SERVER, register  # noqa: E402

BATCH = 20
FIRST = "198.19.0.1"


def frame(source, number, macs):
    return udp_frame(macs, source, SERVER, register(source, 5060, 1100 + number % 100, number))


def main():
    rate, seconds, sources = (int(word) for word in sys.argv[1:4])
    device = sys.argv[5]
    macs = bytes.fromhex(sys.argv[4].replace(":", "")) + bytes.fromhex(open(f"/sys/class/net/{device}/address").read().strip().replace(":", ""))
    first = int(ipaddress.ip_address(FIRST))
    sources = max(BATCH, sources // BATCH * BATCH)
    frames = Frames([frame(str(ipaddress.ip_address(first + i)), i, macs) for i in range(sources)])
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
        out.bind((device, 0))
        sent, start = 0, time.monotonic()
        while (now := time.monotonic() - start) < seconds:
            if sent > now * rate:
                time.sleep((sent - now * rate) / rate)
                continue
            at = sent % sources
            frames.send(out, at, BATCH)
            sent += BATCH
    print(sent, flush=True)


if __name__ == "__main__":
    main()
