"""Tells when the first datagram of each sender arrives in each namespace: NETNS…

Prints `N SENDER MILLISECONDS`, with the number of the namespace and the time of CLOCK_MONOTONIC.
"""
import ctypes
import select
import socket
import sys
import time

PORT = 7033
CLONE_NEWNET = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
numbers = {}
poll = select.poll()
for number, path in enumerate(sys.argv[1:]):
    with open(path) as netns:
        assert libc.setns(netns.fileno(), CLONE_NEWNET) == 0, path
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("", PORT))
    numbers[receiver.fileno()] = (number, receiver)
    poll.register(receiver, select.POLLIN)
seen = set()
print("ready")
while True:
    for fd, _ in poll.poll():
        number, receiver = numbers[fd]
        _, (sender, _) = receiver.recvfrom(64)
        if (number, sender) not in seen:
            seen.add((number, sender))
            print(number, sender, time.monotonic() * 1000)
