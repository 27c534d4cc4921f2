"""Sends datagrams at once: ADDRESS PORT HOW_MANY BYTES. Each is longer than the one before, so that none can be joined."""
import socket
import sys

address, port, count, size = sys.argv[1], *map(int, sys.argv[2:])
with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for number in range(count):
        sender.sendto(bytes(size - count + number), (address, port))
