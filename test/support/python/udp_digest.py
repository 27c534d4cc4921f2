"""Answers each datagram with its SHA-256, and prints that too: PORT."""
import hashlib
import socket
import sys

with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", int(sys.argv[1])))
    print("ready")
    while True:
        data, client = server.recvfrom(1 << 16)
        digest = hashlib.sha256(data).hexdigest()
        print(digest)
        server.sendto(digest.encode(), client)
