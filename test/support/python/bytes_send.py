"""Sends random bytes as PLAN says, and prints the SHA-256 of each transfer.

PLAN is a JSON list of [KIND, ADDRESS, PORT, BYTES, SEGMENT, BURST], which are sent one after another:

KIND tcp: over one connection, with a maximum segment of SEGMENT unless that is 0.
KIND udp: as datagrams of SEGMENT bytes (the last may be shorter), which the
kernel cuts from larger buffers (UDP_SEGMENT). The first buffer is one datagram,
so that the flow gets decided, the others are BURST datagrams. Each waits until
the receiver has the one before, so that no queue on the way overflows, however
long any program pauses.
KIND datagrams: the same, but each datagram is sent separately.
"""
import hashlib
import json
import random
import socket
import sys

UDP_SEGMENT = 103
ANSWER_S = 60


def send(kind, address, port, count, segment, burst):
    data = random.Random(port).randbytes(count)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as out:
        out.settimeout(ANSWER_S)
        if kind == "tcp":
            if segment:
                out.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
            out.connect((address, port))
            # The time limit of a call runs while no byte leaves, so each part gets the full time.
            for at in range(0, count, 1 << 16):
                out.sendall(data[at : at + (1 << 16)])
        else:
            if kind == "udp":
                out.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
            out.connect((address, port))
            at = 0
            while at < count:
                end = min(count, at + segment * (burst if at else 1))
                size = end - at if kind == "udp" else segment
                for start in range(at, end, size):
                    out.send(data[start : min(end, start + size)])
                out.recv(1)
                at = end
    return hashlib.sha256(data).hexdigest()


for transfer in json.loads(sys.argv[1]):
    print(send(*transfer))
