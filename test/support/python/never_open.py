"""Datagrams that must not arrive, and those that must.

never_open.py sink PORT             counts what comes, by address of the sender
never_open.py send ADDRESS PORT RATE  sends so many datagrams a second, by turns from 32 source ports

For each line on standard input, each prints what it has counted since it began, as JSON. `send` counts what the kernel has
taken; after the line `stop` it sends nothing, until the line `go`.
"""
import collections
import json
import os
import select
import socket
import sys
import time

SO_RCVBUFFORCE = 33
RECEIVE_BYTES = 16 << 20
SOURCES = 32
BURST_S = 0.002


def lines():
    data = os.read(0, 65536)
    if not data:
        sys.exit(0)
    return data.decode().split()


def sink(port):
    one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    one.bind(("::", port))
    counted = collections.Counter()
    print("ready", flush=True)
    while True:
        for ready in select.select([one, 0], [], [])[0]:
            if ready is one:
                counted[one.recvfrom(64)[1][0].removeprefix("::ffff:")] += 1
                continue
            lines()
            # What has come before the question is counted, too.
            one.setblocking(False)
            try:
                while True:
                    counted[one.recvfrom(64)[1][0].removeprefix("::ffff:")] += 1
            except BlockingIOError:
                pass
            one.setblocking(True)
            print(json.dumps(counted), flush=True)


def send(address, port, rate):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    ones = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(SOURCES)]
    sent = refused = 0
    begun = time.monotonic()
    due = 0.0
    stopped = False
    print("ready", flush=True)
    while True:
        wait = None if stopped else max(0.0, begun + due / rate - time.monotonic())
        if select.select([0], [], [], wait)[0]:
            for word in lines():
                if word in ("stop", "go"):
                    stopped = word == "stop"
                    begun, due = time.monotonic(), 0.0
            print(json.dumps({"sent": sent, "refused": refused}), flush=True)
        if stopped:
            continue
        now = time.monotonic()
        # Time that this process did not get is not made up for.
        due = max(due, (now - begun - 0.1) * rate)
        until = (now - begun + BURST_S) * rate
        while due < until:
            try:
                ones[sent % SOURCES].sendto(b"?", (address, port))
                sent += 1
            except OSError:
                refused += 1
            due += 1


if sys.argv[1] == "sink":
    sink(int(sys.argv[2]))
else:
    send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
