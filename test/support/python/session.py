"""A long-lived TCP session like that of a remote shell, with much data in both directions: serve PORT; or ask ADDRESS PORT.

The asking side prints a line for each complete and correct answer, and goes on
until it is ended.
"""
import socket
import sys
import time

ASKED = bytes(range(256)) * 20
ANSWERED = bytes(reversed(range(256))) * 80
PAUSE_S = 0.02


def read(stream, expected):
    if stream.read(len(expected)) != expected:
        sys.exit("the session broke")


if sys.argv[1] == "serve":
    with socket.create_server(("::", int(sys.argv[2])), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        print("ready", flush=True)
        connection = server.accept()[0]
        stream = connection.makefile("rb")
        while stream.peek(1):
            read(stream, ASKED)
            connection.sendall(ANSWERED)
else:
    connection = socket.create_connection((sys.argv[2], int(sys.argv[3])))
    stream = connection.makefile("rb")
    while True:
        connection.sendall(ASKED)
        read(stream, ANSWERED)
        print("answered", flush=True)
        time.sleep(PAUSE_S)
