"""Sends datagrams of BYTES random bytes, each from a new source port, and fails unless udp_digest.py has them all: ADDRESS PORT COUNT BYTES."""
import hashlib
import os
import socket
import sys

address, port, count, size = sys.argv[1], *map(int, sys.argv[2:5])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
lost = 0
for _ in range(count):
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(3)
        client.connect((address, port))
        data = os.urandom(size)
        client.send(data)
        try:
            if client.recv(100) != hashlib.sha256(data).hexdigest().encode():
                lost += 1
        except OSError:
            lost += 1
if lost:
    sys.exit(f"{lost} of {count} datagrams to {address} did not arrive whole")
