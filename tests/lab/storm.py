#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""More packets than sender.py can make: REGISTERs as a phone sends them, from many addresses in turn, at any pace a core can bear.

  storm.py RATE SECONDS SOURCES SERVER_MAC DEVICE    prints how many it sent

Frames are made beforehand and go out twenty a system call, past routing. Priority and CPU are whoever's who starts it."""
import ctypes
import ipaddress
import socket
import struct
import sys
import time

sys.path.insert(0, __file__.rsplit("/", 2)[0])
from lab.sender import SERVER, register  # noqa: E402

BATCH = 20
FIRST = "198.19.0.1"


def checksum(header):
    total = sum(struct.unpack("!10H", header))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def frame(source, number, macs):
    text = register(source, 5060, 1100 + number % 100, number)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(text), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(SERVER))
    ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    return macs + b"\x08\x00" + ip + struct.pack("!HHHH", 5060, 5060, 8 + len(text), 0) + text


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class Header(ctypes.Structure):  # struct msghdr
    _fields_ = [("name", ctypes.c_void_p), ("name_size", ctypes.c_uint), ("parts", ctypes.POINTER(IoVec)),
                ("part_count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_size", ctypes.c_size_t), ("flags", ctypes.c_int)]


class Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = [("header", Header), ("sent", ctypes.c_uint)]


def main():
    rate, seconds, sources = (int(word) for word in sys.argv[1:4])
    device = sys.argv[5]
    macs = bytes.fromhex(sys.argv[4].replace(":", "")) + bytes.fromhex(open(f"/sys/class/net/{device}/address").read().strip().replace(":", ""))
    first = int(ipaddress.ip_address(FIRST))
    sources = max(BATCH, sources // BATCH * BATCH)
    frames = [frame(str(ipaddress.ip_address(first + i)), i, macs) for i in range(sources)]
    buffers = [ctypes.create_string_buffer(each, len(each)) for each in frames]
    parts = [IoVec(ctypes.addressof(buffer), len(buffer)) for buffer in buffers]
    messages = (Message * sources)(*[Message(Header(parts=ctypes.pointer(part), part_count=1)) for part in parts])
    libc = ctypes.CDLL(None, use_errno=True)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
        out.bind((device, 0))
        sent, start = 0, time.monotonic()
        while (now := time.monotonic() - start) < seconds:
            if sent > now * rate:
                time.sleep((sent - now * rate) / rate)
                continue
            at = sent % sources
            libc.sendmmsg(out.fileno(), ctypes.byref(messages, at * ctypes.sizeof(Message)), BATCH, 0)
            sent += BATCH
    print(sent, flush=True)


if __name__ == "__main__":
    main()
