"""Receives what order_send.py sends, on IFNAME, until its input ends.

Then prints `received N misordered M`. A frame is misordered if one of the same
flow with a higher number came before it.
"""
import select
import socket
import struct
import sys

ETH_P_IP = 0x0800
SO_RCVBUFFORCE = 33
DESTINATION_PORT = 14 + 20 + 2
DATA = 14 + 20 + 8

received = misordered = 0
latest = {}
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP)) as link:
    link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 128 << 20)
    link.bind((sys.argv[1], ETH_P_IP))
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([link, sys.stdin], [], [])
        if link not in ready:
            break
        frame = link.recv(2048)
        if len(frame) < DATA + 4:
            continue
        (port,) = struct.unpack_from("!H", frame, DESTINATION_PORT)
        (number,) = struct.unpack_from("!I", frame, DATA)
        received += 1
        if number < latest.get(port, -1):
            misordered += 1
        latest[port] = max(number, latest.get(port, -1))
print(f"received {received} misordered {misordered}", flush=True)
