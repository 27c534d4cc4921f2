"""INTERFACE MAC LOCAL REMOTE MTU [PORT…]: sends forged ICMP errors to LOCAL (at MAC). They claim that packets
to REMOTE over MTU bytes do not pass, for VXLAN from each PORT and for an ICMP echo. Their source address does not exist.
"""
import socket
import struct
import sys

interface, mac, local, remote, mtu, *ports = sys.argv[1:]
v6 = ":" in local
family = socket.AF_INET6 if v6 else socket.AF_INET
own, other, nobody = (socket.inet_pton(family, one) for one in (local, remote, "2001:db8:66::66" if v6 else "203.0.113.66"))


def checksum(data):
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(source, destination, protocol, payload, claimed=None):
    size = len(payload) if claimed is None else claimed
    if v6:
        return struct.pack(">IHBB", 6 << 28, size, protocol, 64) + source + destination + payload
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 1, 0x4000, 64, protocol, 0) + source + destination
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + payload


def too_big(quoted):
    if v6:
        message = struct.pack(">BBHI", 2, 0, 0, int(mtu)) + quoted
        pseudo = nobody + own + struct.pack(">II", len(message), 58)
        return message[:2] + struct.pack(">H", checksum(pseudo + message)) + message[4:]
    message = struct.pack(">BBHHH", 3, 4, 0, 0, int(mtu)) + quoted
    return message[:2] + struct.pack(">H", checksum(message)) + message[4:]


echo = struct.pack(">BBHHH", 128 if v6 else 8, 0, 0, 1, 1)
about = [packet(own, other, 58 if v6 else 1, echo, 1472)]
for port in ports:
    about.append(packet(own, other, 17, struct.pack(">HHHH", int(port), 4789, 1480, 0), 1480))
sending = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sending.bind((interface, 0))
ethernet = bytes.fromhex(mac.replace(":", "")) + b"\x02\0\0\0\0\x42" + (b"\x86\xdd" if v6 else b"\x08\0")
for quoted in about:
    sending.send(ethernet + packet(nobody, own, 58 if v6 else 1, too_big(quoted)))
