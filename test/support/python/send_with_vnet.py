"""Sends frames with a virtio_net_hdr of the sender's choice out of an interface: IFNAME.

Each line of the input is a header and a frame of hexadecimal digits. For each,
prints `sent` or the name of the kernel's refusal.
"""
import errno
import socket
import sys

SOL_PACKET = 263
PACKET_VNET_HDR = 15

with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:
    link.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    link.bind((sys.argv[1], 0))
    for line in sys.stdin:
        header, frame = line.split()
        try:
            link.send(bytes.fromhex(header) + bytes.fromhex(frame))
            print("sent")
        except OSError as error:
            print(errno.errorcode.get(error.errno, error.errno))
