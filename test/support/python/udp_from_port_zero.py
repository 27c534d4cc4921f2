"""Sends a datagram from port 0: udp_from_port_zero.py ADDRESS PORT MESSAGE. Only a raw socket can."""
import socket
import struct
import sys

address, port, message = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sender = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP)
if family == socket.AF_INET6:
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, 6)
# Without a checksum, which IPv4 permits; with IPv6 the kernel computes it.
sender.sendto(struct.pack("!HHHH", 0, port, 8 + len(message), 0) + message, (address, 0))
