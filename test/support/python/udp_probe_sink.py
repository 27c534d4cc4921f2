"""Prints the number and the arrival (ms, CLOCK_MONOTONIC) of each probe: PORT."""
import socket
import struct
import sys
import time

with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sink:
    sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sink.bind(("::", int(sys.argv[1])))
    print("ready")
    while True:
        (number,) = struct.unpack_from("!Q", sink.recv(64))
        print(number, time.monotonic() * 1000)
