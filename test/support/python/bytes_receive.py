"""Receives what bytes_send.py sends with the same PLAN, and prints the SHA-256 of each complete transfer.

Every datagram except the last must have SEGMENT bytes. It answers the first
datagram, every BURSTth after that, and the last.
"""
import hashlib
import json
import socket
import sys

QUIET_S = 60


def listen(kind, port):
    server = socket.socket(socket.AF_INET6, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("::", port))
    server.settimeout(QUIET_S)
    if kind == "tcp":
        server.listen()
    return server


def receive(server, kind, expected, segment, burst):
    received = datagrams = 0
    digest = hashlib.sha256()
    try:
        source = server.accept()[0] if kind == "tcp" else server
        source.settimeout(QUIET_S)
        while received < expected:
            data, sender = source.recvfrom(1 << 20)
            if kind == "tcp" and not data:
                sys.exit(f"{kind}: the connection ended after {received} of {expected} bytes")
            if kind != "tcp" and len(data) != min(segment, expected - received):
                sys.exit(f"{kind}: a datagram of {len(data)} bytes after {received} bytes")
            digest.update(data)
            received += len(data)
            if kind != "tcp" and (datagrams % burst == 0 or received == expected):
                source.sendto(b".", sender)
            datagrams += 1
    except TimeoutError:
        sys.exit(f"{kind}: {received} of {expected} bytes came")
    return digest.hexdigest()


plan = json.loads(sys.argv[1])
servers = [listen(kind, port) for kind, _, port, *_ in plan]
print("ready", flush=True)
for server, (kind, _, _, *sizes) in zip(servers, plan):
    print(receive(server, kind, *sizes))
