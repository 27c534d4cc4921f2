"""Sends one datagram, of hexadecimal digits: ADDRESS PORT HEX."""
import socket
import sys

address, port, data = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as out:
    out.sendto(data, (address, port))
