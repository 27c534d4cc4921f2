"""Tells each TCP client its own address in a line, then repeats what it sends: PORT."""
import socket
import sys
import threading


def serve(connection, address):
    with connection:
        connection.sendall(address.removeprefix("::ffff:").encode() + b"\n")
        while data := connection.recv(2048):
            connection.sendall(data)


with socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True) as server:
    print("ready")
    while True:
        connection, address = server.accept()
        threading.Thread(target=serve, args=(connection, address[0]), daemon=True).start()
