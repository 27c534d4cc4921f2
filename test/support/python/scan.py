"""Tries TCP and UDP at each PORT of each ADDRESS, and prints which ones answer, until the last one has: PORTS ADDRESS..."""
import selectors
import socket
import sys
import time

DEADLINE_S = 30

ports, addresses = [int(port) for port in sys.argv[1].split(",")], sys.argv[2:]
selector = selectors.DefaultSelector()
awaited = set()
for address in addresses:
    for port in ports:
        for kind, event in ((socket.SOCK_STREAM, selectors.EVENT_WRITE), (socket.SOCK_DGRAM, selectors.EVENT_READ)):
            family, _, _, _, target = socket.getaddrinfo(address, port, type=kind)[0]
            probe = socket.socket(family, kind)
            probe.setblocking(False)
            name = "tcp" if kind == socket.SOCK_STREAM else "udp", address, port
            if address == addresses[-1]:
                awaited.add(name)
            error = probe.connect_ex(target)
            if error not in (0, 115):
                continue
            if name[0] == "udp":
                try:
                    probe.send(b"anybody there?")
                except OSError:
                    continue
            selector.register(probe, event, name)
deadline = time.monotonic() + DEADLINE_S
while awaited and time.monotonic() < deadline:
    for key, _ in selector.select(0.1):
        probe, name = key.fileobj, key.data
        selector.unregister(probe)
        if name[0] == "tcp":
            if probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0:
                continue
        else:
            try:
                probe.recv(100)
            except OSError:
                continue
        awaited.discard(name)
        print(*name)
if awaited:
    sys.exit(f"no answer from {sorted(awaited)}")
