"""Accepts everything over TCP and UDP, answers it, and prints that it did: PORT..."""
import selectors
import socket
import sys

selector = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    udp.bind(("::", port))
    for kind, listener in (("tcp", tcp), ("udp", udp)):
        selector.register(listener, selectors.EVENT_READ, (kind, port))
print("ready")
while True:
    for key, _ in selector.select():
        kind, port = key.data
        if kind == "tcp":
            connection, source = key.fileobj.accept()
            connection.close()
        else:
            _, source = key.fileobj.recvfrom(2048)
            key.fileobj.sendto(b"here", source)
        print(kind, port, "from", source[0].removeprefix("::ffff:"))
