"""Receives what short_flows.py sends, and prints every second `received N damaged N`: PORT."""
import random
import socket
import sys
import time

SO_RCVBUFFORCE = 33
RECEIVE_BYTES = 16 << 20
LONGEST = 8900
PATTERN = random.Random(4660).randbytes(LONGEST)

received = damaged = 0
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sink:
    sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    sink.bind(("::", int(sys.argv[1])))
    sink.settimeout(1)
    print("ready", flush=True)
    due = time.monotonic() + 1
    while True:
        try:
            data = sink.recv(LONGEST + 1)
            received += 1
            if data != PATTERN[: len(data)]:
                damaged += 1
        except TimeoutError:
            pass
        if time.monotonic() >= due:
            due += 1
            print(f"received {received} damaged {damaged}", flush=True)
