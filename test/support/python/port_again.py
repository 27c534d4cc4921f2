"""Connects COUNT times from the same port, each time when the connection before is over. Prints how many needed no second SYN.

port_again.py ADDRESS PORT OWN_PORT COUNT
"""
import socket
import struct
import sys

address, port, own_port, count = sys.argv[1], *map(int, sys.argv[2:])
# tcpi_total_retrans of linux/tcp.h
TOTAL_RETRANS = 100
at_once = 0
for _ in range(count):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.settimeout(30)
    one.bind(("", own_port))
    one.connect((address, port))
    info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    at_once += struct.unpack_from("I", info, TOTAL_RETRANS)[0] == 0
    one.shutdown(socket.SHUT_WR)
    while one.recv(64):
        pass
    one.close()
print(at_once)
