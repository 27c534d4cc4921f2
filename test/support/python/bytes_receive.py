"""Receives what bytes_send.py sends, until there are BYTES, and says their SHA-256: KIND PORT BYTES SEGMENT BURST.

With KIND udp every datagram has to have SEGMENT bytes, but the last; the first,
then each BURSTth and the last are answered.
"""
import hashlib
import socket
import sys

QUIET_S = 10

kind, port, expected, segment, burst = sys.argv[1], *map(int, sys.argv[2:6])
received = datagrams = 0
digest = hashlib.sha256()
with socket.socket(socket.AF_INET6, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as server:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("::", port))
    server.settimeout(QUIET_S)
    if kind == "tcp":
        server.listen()
    print("ready", flush=True)
    source = server.accept()[0] if kind == "tcp" else server
    source.settimeout(QUIET_S)
    while received < expected:
        try:
            data, sender = source.recvfrom(1 << 20)
        except TimeoutError:
            sys.exit(f"{received} of {expected} bytes came")
        if kind == "tcp" and not data:
            sys.exit(f"the connection ended after {received} of {expected} bytes")
        if kind == "udp" and len(data) != min(segment, expected - received):
            sys.exit(f"a datagram of {len(data)} bytes after {received} bytes")
        digest.update(data)
        received += len(data)
        if kind == "udp" and (datagrams % burst == 0 or received == expected):
            source.sendto(b".", sender)
        datagrams += 1
print(digest.hexdigest())
