"""Sends numbered datagrams in bursts until it is ended: ADDRESS PORT.

Each flow has a source port of its own and datagrams of one size; those of a
burst leave back to back, so that they can be coalesced. Every second flow
leaves the cutting of a burst to the kernel (UDP_SEGMENT).
"""
import errno
import socket
import struct
import sys
import time

UDP_SEGMENT = 103
SIZES = (24, 24, 100, 512, 1000, 1372)
BURST = 16
INTERVAL_S = 0.020
# The queue is full for a moment, or the receiver is not there: the datagrams are lost.
LOST = (errno.ENOBUFS, errno.ECONNREFUSED)


class Flow:
    def __init__(self, address, port, size, cuts):
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((address, port))
        if cuts:
            self.socket.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        self.padding = bytes(size - 8)
        self.cuts = cuts
        self.number = 0

    def burst(self):
        datagrams = [struct.pack("!Q", self.number + i) + self.padding for i in range(BURST)]
        self.number += BURST
        for data in [b"".join(datagrams)] if self.cuts else datagrams:
            try:
                self.socket.send(data)
            except OSError as error:
                if error.errno not in LOST:
                    raise


flows = [Flow(sys.argv[1], int(sys.argv[2]), size, n % 2 == 1) for n, size in enumerate(SIZES)]
due = time.monotonic()
while True:
    for flow in flows:
        flow.burst()
    due = max(due + INTERVAL_S, time.monotonic() - INTERVAL_S)
    time.sleep(max(0.0, due - time.monotonic()))
