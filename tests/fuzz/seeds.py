#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""seeds.py FOLDER: writes the fuzzer's first inputs: our own messages and, where SIPWARD_DATA is, those of the captures."""
import hashlib
import os
import pathlib
import struct
import sys

OWN = [
    b"\r\n\r\n",
    b"\0\0\0\0",
    b"OPTIONS sip:nm SIP/2.0\r\nFrom: <sip:nm@nm>;tag=root\r\nCall-ID: 50000\r\nCSeq: 42 OPTIONS\r\n\r\n",
    b"SIP/2.0 401 Unauthorized\r\nv: SIP/2.0/UDP h;branch=z9hG4bKx;rport=5060;received=192.0.2.1\r\nf: <sip:a@b>;tag=1\r\n"
    b"t: c <sip:c@d>;tag=2\r\ni: x\r\nCSeq: 7 INVITE\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\nl: 0\r\n\r\n",
    b"REGISTER sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK-3706183446;rport\r\nMax-Forwards: 70\r\n"
    b"To: \"1010\"<sip:1010@192.0.2.1>\r\nFrom: \"1010\"<sip:1010@192.0.2.1>;tag=313031303a70617373776f72640132343031323034343031\r\n"
    b"Call-ID: 2718281828\r\nContact: sip:1010@192.0.2.1\r\nCSeq: 2 REGISTER\r\nAccept: application/sdp\r\n\r\n",
    b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.4:5060;rport;branch=z9hG4bK776\r\nMax-Forwards: 70\r\n"
    b"From: \"Ann \\\"A\\\" B\" <sip:ann%20b@example.com>;tag=a73k\r\nTo: <sip:ann@[2001:db8::1]>\r\nCall-ID: 1j9@x\r\n"
    b"CSeq: 1826 REGISTER\r\nContact: <sip:ann@192.0.2.4>;expires=60\r\nUser-Agent : Yealink\r\n"
    b"Authorization: Digest username=\"ann\", realm=\"x\",nonce=\"84\",\r\n uri=\"sip:x\" , response=\"758\"\r\n\r\n",
]


def payloads(capture: bytes):
    """The UDP payloads of a classic pcap file, as far as a plain Ethernet or Linux cooked frame without options shows them."""
    endian = "<" if capture[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    if len(capture) < 24:
        return
    at = 24
    while at + 16 <= len(capture):
        (size,) = struct.unpack(endian + "I", capture[at + 8 : at + 12])
        frame = capture[at + 16 : at + 16 + size]
        at += 16 + size
        for skip in (14, 16, 18, 0):
            ip = frame[skip:]
            if len(ip) > 28 and ip[0] == 0x45 and ip[9] == 17:
                yield ip[28:]
                break
            if len(ip) > 48 and ip[0] >> 4 == 6 and ip[6] == 17:
                yield ip[48:]
                break


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    seeds = list(OWN)
    data = pathlib.Path(os.environ.get("SIPWARD_DATA", pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"))
    seeds += [f.read_bytes() for f in sorted(data.glob("torture/*.dat"))]
    for capture in sorted(data.glob("captures/*.pcap")) + sorted(data.glob("others/*.pcap")):
        seeds += list(payloads(capture.read_bytes()))[:40]
    for seed in seeds:
        (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    print(f"{len(seeds)} seeds")


main()
