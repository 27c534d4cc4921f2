"""Prints each frame that comes in by an interface as hexadecimal digits: IFNAME."""
import socket
import sys

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
RECEIVE_BYTES = 64 << 20
PACKET_OUTGOING = 4

with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as link:
    link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    link.bind((sys.argv[1], ETH_P_ALL))
    print("ready")
    while True:
        frame, (_, _, direction, _, _) = link.recvfrom(65535)
        if direction != PACKET_OUTGOING:
            print(frame.hex())
