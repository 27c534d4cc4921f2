"""Prints the TOS or traffic class of each datagram, and when the last one has come: PORT."""
import socket
import sys

with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sink:
    sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    sink.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    sink.bind(("::", int(sys.argv[1])))
    print("ready")
    while True:
        data, control, _, _ = sink.recvmsg(2048, 256)
        if data == b"end":
            break
        print(control[0][2][0])
    print("end")
    sys.stdin.read()
