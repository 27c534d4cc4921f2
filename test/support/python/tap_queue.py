"""Attaches a queue of a TAP, as a container could: tap_queue.py NAME [UID [VNET_HDR_BYTES]]

Prints `held`, or `refused` and the kernel's reason. With VNET_HDR_BYTES, it first changes the
length of the header of the TAP's frames. Holds the queue until it is ended.
"""
import errno
import fcntl
import os
import signal
import struct
import sys

TUNSETIFF = 0x400454CA
TUNSETVNETHDRSZ = 0x400454D8
IFF_TAP_MULTI_QUEUE_VNET_HDR_NO_PI = 0x5102

name, uid, header_bytes = (sys.argv[1:] + ["0", "0"])[:3] if len(sys.argv) < 4 else sys.argv[1:4]
# Opened as root, because the permissions of the device differ between machines.
tun = os.open("/dev/net/tun", os.O_RDWR)
if int(uid):
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
try:
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP_MULTI_QUEUE_VNET_HDR_NO_PI))
    if int(header_bytes):
        fcntl.ioctl(tun, TUNSETVNETHDRSZ, struct.pack("i", int(header_bytes)))
except OSError as error:
    print("refused", errno.errorcode[error.errno])
    sys.exit()
print("held")
signal.pause()
