"""Sends one datagram: ADDRESS PORT."""
import socket
import sys

address, port = sys.argv[1], int(sys.argv[2])
with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as out:
    out.sendto(b"hello", (address, port))
