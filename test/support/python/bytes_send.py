"""Sends random bytes, and says the SHA-256 of what was sent: KIND ADDRESS PORT BYTES SEED SEGMENT BURST.

KIND tcp: over one connection, with a maximum segment of SEGMENT unless that is 0.
KIND udp: as datagrams of SEGMENT bytes (the last may be shorter), which the
kernel cuts from larger buffers (UDP_SEGMENT): the first of one datagram, for the
flow to be decided, then of BURST. Each waits until the receiver has the one
before, so that no queue on the way overflows.
"""
import hashlib
import random
import socket
import sys

UDP_SEGMENT = 103
ANSWER_S = 10

kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
data, segment, burst = random.Random(int(sys.argv[5])).randbytes(int(sys.argv[4])), int(sys.argv[6]), int(sys.argv[7])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as out:
    if kind == "tcp":
        if segment:
            out.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        out.connect((address, port))
        out.sendall(data)
    else:
        out.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
        out.connect((address, port))
        out.settimeout(ANSWER_S)
        at = 0
        while at < len(data):
            end = min(len(data), at + segment * (burst if at else 1))
            out.send(data[at:end])
            out.recv(1)
            at = end
print(hashlib.sha256(data).hexdigest())
