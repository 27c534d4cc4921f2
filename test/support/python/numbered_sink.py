"""Receives what numbered_send.py sends: PORT.

Prints every second `received N lost N misordered N`, the totals of all flows
since the beginning. A datagram is misordered if one of the same flow with the
same or a higher number came before it.
"""
import socket
import struct
import sys
import time

SO_RCVBUFFORCE = 33
RECEIVE_BYTES = 16 << 20

latest = {}
received = misordered = 0
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sink:
    sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    sink.bind(("::", int(sys.argv[1])))
    sink.settimeout(1)
    print("ready", flush=True)
    due = time.monotonic() + 1
    while True:
        try:
            data, source = sink.recvfrom(2048)
            (number,) = struct.unpack_from("!Q", data)
            received += 1
            last = latest.get(source, -1)
            if number > last:
                latest[source] = number
            else:
                misordered += 1
        except TimeoutError:
            pass
        if time.monotonic() >= due:
            due += 1
            expected = sum(last + 1 for last in latest.values())
            print(f"received {received} lost {expected - received} misordered {misordered}", flush=True)
