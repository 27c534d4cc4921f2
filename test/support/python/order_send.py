"""Sends flows of numbered frames back to back: IFNAME TEMPLATE FLOWS FRAMES.

TEMPLATE is an Ethernet frame of UDP over IPv4 with checksum 0, as hexadecimal
digits, with at least 4 bytes of data. Flow n has destination port 100 + n.
"""
import socket
import struct
import sys

DESTINATION_PORT = 14 + 20 + 2
DATA = 14 + 20 + 8

ifname, template, flows, frames = sys.argv[1], bytes.fromhex(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
batch = []
for flow in range(flows):
    for number in range(frames):
        frame = bytearray(template)
        struct.pack_into("!H", frame, DESTINATION_PORT, 100 + flow)
        struct.pack_into("!I", frame, DATA, number)
        batch.append(bytes(frame))

with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:
    link.bind((ifname, 0))
    for frame in batch:
        while True:
            try:
                link.send(frame)
                break
            except OSError as error:
                if error.errno != 105:  # ENOBUFS: the device's queue is full for a moment
                    raise
