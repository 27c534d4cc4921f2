"""
Sends frames from random unicast source MACs to one destination, in small bursts
so that nothing on the way is overrun.

    mac_flood.py link IFNAME DESTINATION-MAC COUNT SEED
    mac_flood.py vxlan SOURCE PEER VNI DESTINATION-MAC COUNT SEED
"""
import random
import socket
import struct
import sys
import time

BURST = 100
PAUSE_S = 0.010
ETHERTYPE_LOCAL_EXPERIMENTAL = 0x88B5
VXLAN_PORT = 4789

kind = sys.argv[1]
destination, count, seed = sys.argv[-3], int(sys.argv[-2]), sys.argv[-1]
rng = random.Random(seed)


def frame():
    source = bytearray(rng.randbytes(6))
    source[0] = (source[0] | 0x02) & 0xFE
    return bytes.fromhex(destination.replace(":", "")) + bytes(source) + struct.pack("!H", ETHERTYPE_LOCAL_EXPERIMENTAL) + bytes(46)


if kind == "link":
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    out.bind((sys.argv[2], 0))
    send = out.send
else:
    source, peer, vni = sys.argv[2], sys.argv[3], int(sys.argv[4])
    out = socket.socket(socket.AF_INET6 if ":" in peer else socket.AF_INET, socket.SOCK_DGRAM)
    out.bind((source, 0))
    out.connect((peer, VXLAN_PORT))
    header = struct.pack("!II", 0x08000000, vni << 8)

    def send(inner):
        out.send(header + inner)


for number in range(count):
    try:
        send(frame())
    except OSError:
        pass
    if number % BURST == BURST - 1:
        time.sleep(PAUSE_S)
