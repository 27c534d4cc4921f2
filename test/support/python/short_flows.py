"""Sends short flows of UDP until it is ended: ADDRESS PORT FLOWS-PER-SECOND SEED.

Each flow has a new source port and up to four datagrams, from empty ones up to
several fragments. Their data is the beginning of PATTERN.
"""
import errno
import random
import socket
import sys
import time

SIZES = (0, 1, 2, 17, 18, 60, 200, 576, 1200, 1400, 1473, 3000, 8900)
PATTERN = random.Random(4660).randbytes(max(SIZES))

address, port, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
rng = random.Random(int(sys.argv[4]))
due = time.monotonic()
while True:
    with socket.socket(family, socket.SOCK_DGRAM) as flow:
        for size in rng.choices(SIZES, k=rng.randint(1, 4)):
            try:
                flow.sendto(PATTERN[:size], (address, port))
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
    due = max(due + 1 / rate, time.monotonic() - 0.1)
    time.sleep(max(0.0, due - time.monotonic()))
