"""Sends a datagram with each TOS or traffic class, and a last one with ECT(0): ADDRESS PORT TOS…"""
import socket
import sys

address, port = sys.argv[1], int(sys.argv[2])
v6 = ":" in address
level, option = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if v6 else (socket.IPPROTO_IP, socket.IP_TOS)
with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM) as out:
    for tos, data in [*((int(tos), b"one") for tos in sys.argv[3:]), (2, b"end")]:
        out.setsockopt(level, option, tos)
        out.sendto(data, (address, port))
