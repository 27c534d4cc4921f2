"""Many TCP connections that exchange data without a pause.

exchange.py serve PORT              returns whatever comes
exchange.py ask ADDRESS PORT COUNT  on each of COUNT connections sends a number, waits until it is back, sends the next

For each line on standard input, `ask` prints what has happened since the line before, as JSON: how many exchanges
there were, the longest time between two on one connection, and how many connections have broken. The end of the input
ends it.
"""
import json
import selectors
import socket
import struct
import sys
import time

BYTES = 512


def serve(port):
    selector = selectors.DefaultSelector()
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
    selector.register(server, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is server:
                selector.register(server.accept()[0], selectors.EVENT_READ)
                continue
            try:
                data = key.fileobj.recv(65536)
                if data:
                    key.fileobj.sendall(data)
                    continue
            except OSError:
                pass
            selector.unregister(key.fileobj)
            key.fileobj.close()


class Connection:
    def __init__(self, address, port):
        self.socket = socket.create_connection((address, port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = 0
        self.waiting = b""
        self.longest = 0.0
        self.send()

    def send(self):
        self.at = time.monotonic()
        self.number += 1
        self.socket.sendall(struct.pack(">Q", self.number).ljust(BYTES, b"."))

    def receive(self):
        data = self.socket.recv(BYTES - len(self.waiting))
        if not data:
            raise ConnectionError("closed")
        self.waiting += data
        if len(self.waiting) < BYTES:
            return 0
        if struct.unpack(">Q", self.waiting[:8])[0] != self.number:
            raise ConnectionError("another number")
        self.waiting = b""
        self.longest = max(self.longest, time.monotonic() - self.at)
        self.send()
        return 1


def ask(address, port, count):
    selector = selectors.DefaultSelector()
    connections = [Connection(address, port) for _ in range(count)]
    for each in connections:
        selector.register(each.socket, selectors.EVENT_READ, each)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print("ready", flush=True)
    exchanges = 0
    broken = []
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                if not sys.stdin.readline():
                    return
                now = time.monotonic()
                longest = max((max(each.longest, now - each.at) for each in connections), default=0)
                report = {"exchanges": exchanges, "longestMs": longest * 1000, "broken": broken}
                print(json.dumps(report), flush=True)
                exchanges = 0
                for each in connections:
                    each.longest = 0.0
                continue
            try:
                exchanges += key.data.receive()
            except OSError as error:
                broken.append(str(error))
                connections.remove(key.data)
                selector.unregister(key.fileobj)


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
