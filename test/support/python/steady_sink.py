"""Prints how many bytes have come over one TCP connection, at each byte: PORT."""
import socket
import sys

with socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True) as server:
    print("ready")
    source = server.accept()[0]
    count = 0
    while data := source.recv(4096):
        count += len(data)
        print(f"{count} bytes")
