# SPDX-License-Identifier: GPL-2.0-or-later
"""Ethernet frames made by hand, and sent many a system call (sendmmsg(2)), past routing: more than any socket of Python's can send."""
import ctypes
import socket
import struct


def udp_frame(macs, source, destination, text, port=5060):
    """`macs`: the destination's and the source's, twelve octets."""
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(text), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(destination))
    ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    return macs + b"\x08\x00" + ip + struct.pack("!HHHH", port, port, 8 + len(text), 0) + text


def checksum(header):
    total = sum(struct.unpack("!10H", header))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class Header(ctypes.Structure):  # struct msghdr
    _fields_ = [("name", ctypes.c_void_p), ("name_size", ctypes.c_uint), ("parts", ctypes.POINTER(IoVec)),
                ("part_count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_size", ctypes.c_size_t), ("flags", ctypes.c_int)]


class Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = [("header", Header), ("sent", ctypes.c_uint)]


class Frames:
    """Made beforehand, to be sent again and again."""

    def __init__(self, frames):
        self.buffers = [ctypes.create_string_buffer(each, len(each)) for each in frames]
        self.parts = [IoVec(ctypes.addressof(buffer), len(buffer)) for buffer in self.buffers]
        self.messages = (Message * len(frames))(*[Message(Header(parts=ctypes.pointer(part), part_count=1)) for part in self.parts])
        self.libc = ctypes.CDLL(None, use_errno=True)

    def send(self, bound, first, count):
        """How many of [first, first + count) went out by this packet socket; negative: none, and errno says why."""
        return self.libc.sendmmsg(bound.fileno(), ctypes.byref(self.messages, first * ctypes.sizeof(Message)), count, 0)
