# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel itself says about its nftables sets, as it happens: the notifications that `nft monitor` prints, without the printing."""
import ipaddress
import socket
import struct
import time

NETLINK_NETFILTER = 12
NFNLGRP_NFTABLES = 7
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
NEW_ELEMENTS = (10 << 8) | 12  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWSETELEM
SET, ELEMENTS, KEY, VALUE = 2, 3, 1, 1  # NFTA_SET_ELEM_LIST_SET, …_ELEMENTS, NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE


class SetEvents:
    """Listens from now on, in a namespace of the laboratory."""

    def __init__(self, network, side="edge"):
        with network.here(side):
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.socket.bind((0, 0))
        self.socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)

    def wait_for(self, address, name, seconds):
        """When the kernel told that this address is an element of the set (time.monotonic()); None if it did not in time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                heard = self.socket.recv(1 << 16)
            except TimeoutError:
                break
            now = time.monotonic()
            if (name, ipaddress.ip_address(address).packed) in new_elements(heard):
                return now
        return None

    def close(self):
        self.socket.close()


def new_elements(datagram):
    """(set's name, key octets) of each element that a netlink datagram announces."""
    found = []
    while len(datagram) >= 16:
        length, kind = struct.unpack_from("=IH", datagram)
        if kind == NEW_ELEMENTS:
            parts = attributes(datagram[20:length])  # behind nlmsghdr and nfgenmsg
            name = parts[SET].rstrip(b"\0").decode()
            found += [(name, attributes(attributes(element)[KEY])[VALUE]) for element in nested(parts.get(ELEMENTS, b""))]
        datagram = datagram[(length + 3) & ~3:]
    return found


def nested(octets):
    """The values of a run of netlink attributes, in order."""
    values = []
    while len(octets) >= 4:
        length, _ = struct.unpack_from("=HH", octets)
        values.append(octets[4:length])
        octets = octets[(length + 3) & ~3:]
    return values


def attributes(octets):
    """A run of netlink attributes by their type (without the flag bits)."""
    found = {}
    while len(octets) >= 4:
        length, kind = struct.unpack_from("=HH", octets)
        found[kind & 0x3FFF] = octets[4:length]
        octets = octets[(length + 3) & ~3:]
    return found
