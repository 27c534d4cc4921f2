"""Sends a datagram every 10 ms to each address that it is told of: NETNS…

Standard input has a line for each order: `+ N ADDRESS` to begin, from namespace number N, and `- ADDRESS` to end, from all.
"""
import ctypes
import os
import select
import socket
import sys
import time

INTERVAL_S = 0.010
PORT = 7033
CLONE_NEWNET = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
sockets = []
for path in sys.argv[1:]:
    with open(path) as netns:
        assert libc.setns(netns.fileno(), CLONE_NEWNET) == 0, path
    sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
targets = set()
os.set_blocking(0, False)
rest = b""
due = time.monotonic()
print("ready")
while True:
    ready, _, _ = select.select([0], [], [], max(0.0, due - time.monotonic()))
    if ready:
        data = os.read(0, 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            words = line.decode().split()
            if words[0] == "+":
                targets.add((int(words[1]), words[2]))
            else:
                targets = {one for one in targets if one[1] != words[1]}
    if time.monotonic() < due:
        continue
    for sender, address in targets:
        try:
            sockets[sender].sendto(address.encode(), (address, PORT))
        except OSError:
            pass
    due = max(due + INTERVAL_S, time.monotonic())
