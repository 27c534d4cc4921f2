"""Answers one ping of each address family late, as a slow host does: SECONDS. The kernel's own answers are off."""
import socket
import struct
import sys
import threading
import time

REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}


def checksum(message):
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def answer(family, protocol):
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        while True:
            packet, sender = raw.recvfrom(2048)
            message = packet[(packet[0] & 15) * 4 :] if family == socket.AF_INET else packet
            if message[0] != REQUEST[family]:
                continue
            time.sleep(int(sys.argv[1]))
            reply = struct.pack("!BBH", REPLY[family], 0, 0) + message[4:]
            # The kernel fills it in for IPv6.
            if family == socket.AF_INET:
                reply = reply[:2] + struct.pack("!H", checksum(reply)) + reply[4:]
            raw.sendto(reply, (sender[0], 0) if family == socket.AF_INET else (sender[0], 0, 0, 0))
            return


threads = [
    threading.Thread(target=answer, args=pair)
    for pair in ((socket.AF_INET, socket.IPPROTO_ICMP), (socket.AF_INET6, socket.IPPROTO_ICMPV6))
]
for thread in threads:
    thread.start()
print("ready")
