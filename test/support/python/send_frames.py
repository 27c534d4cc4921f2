"""Sends frames out of an interface, one for each line of hexadecimal digits in its input: IFNAME."""
import socket
import sys

with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:
    link.bind((sys.argv[1], 0))
    for line in sys.stdin:
        link.send(bytes.fromhex(line.strip()))
