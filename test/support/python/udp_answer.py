"""Answers each datagram with its bytes in reverse order: PORT."""
import socket
import sys

with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", int(sys.argv[1])))
    print("ready")
    while True:
        question, client = server.recvfrom(2048)
        server.sendto(question[::-1], client)
