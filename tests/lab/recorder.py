# SPDX-License-Identifier: GPL-2.0-or-later
"""Records what crosses the wire into a capture file (classic pcap, Ethernet, microseconds), as tcpdump would."""
import socket
import struct
import threading
import time

ETH_P_ALL = 3


class Recorder:
    """Records both directions of a device from its making until `stop`."""

    def __init__(self, network, file, side="edge", device="eth1"):
        with network.here(side):
            self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.wire.bind((device, ETH_P_ALL))
        self.wire.settimeout(0.2)
        self.frames = []
        self.stopped = threading.Event()
        self.file = file
        self.thread = threading.Thread(target=self.record, daemon=True)
        self.thread.start()

    def record(self):
        while True:
            try:
                self.frames.append((time.time_ns() // 1000, self.wire.recv(1 << 16)))
            except TimeoutError:
                if self.stopped.is_set():
                    return

    def stop(self):
        """Takes what is still under way, and writes the file; how many frames it holds."""
        self.stopped.set()
        self.thread.join()
        self.wire.close()
        with open(self.file, "wb") as out:
            out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1))
            for stamp, octets in self.frames:
                out.write(struct.pack("<IIII", stamp // 1_000_000, stamp % 1_000_000, len(octets), len(octets)) + octets)
        return len(self.frames)
