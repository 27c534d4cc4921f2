"""Sends a numbered datagram every 10 ms and goes on whatever happens: ADDRESS PORT.

Mostly each is longer than the one before, so that few can be joined where they wait.
"""
import socket
import struct
import sys
import time

INTERVAL_S = 0.010

address, port = sys.argv[1], int(sys.argv[2])
with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
    number = 0
    due = time.monotonic()
    print("ready")
    while True:
        try:
            probe.sendto(struct.pack("!Q", number) + bytes(number % 8), (address, port))
        except OSError:
            pass
        number += 1
        due += INTERVAL_S
        time.sleep(max(0.0, due - time.monotonic()))
