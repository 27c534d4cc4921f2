"""Asks a server and prints its answer: gateway_ask.py udp|tcp ADDRESS PORT MESSAGE [SOURCE [SOURCE_PORT]]

A question over UDP is repeated until it is answered. Exits 1 if there is no answer in 10 s, or if it is refused.
"""
import socket
import sys

protocol, address, port, message, *more = sys.argv[1:]
source = more[0] if more else ""
source_port = int(more[1]) if len(more) > 1 else 0
family = socket.AF_INET6 if ":" in address else socket.AF_INET
kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
asker = socket.socket(family, kind)
asker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if source:
    asker.bind((source, source_port))
try:
    if protocol == "tcp":
        asker.settimeout(10)
        asker.connect((address, int(port)))
        asker.sendall(message.encode())
        asker.shutdown(socket.SHUT_WR)
        print(asker.makefile("rb").read().decode())
        sys.exit(0)
    asker.settimeout(1)
    asker.connect((address, int(port)))
    for _ in range(10):
        asker.send(message.encode())
        try:
            print(asker.recv(65536).decode())
            sys.exit(0)
        except TimeoutError:
            pass
except OSError as error:
    print(error.strerror, file=sys.stderr)
sys.exit(1)
