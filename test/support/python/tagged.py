"""Sends numbered datagrams to peers, and writes down what it sends and what arrives: NAME PORT INTERVAL_S FILE NAME=ADDRESS…

Each line of FILE is `s PEER NUMBER TIME` or `r SENDER RECEIVER NUMBER TIME`. RECEIVER is for whom the sender meant the
datagram, so that one that reaches somebody else is noticed. Times are microseconds of CLOCK_MONOTONIC.
"""
import selectors
import socket
import sys
import time

name, port, interval, path = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
peers = [word.split("=") for word in sys.argv[5:]]

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", port))
sock.setblocking(False)
selector = selectors.DefaultSelector()
selector.register(sock, selectors.EVENT_READ)


def now():
    return time.monotonic_ns() // 1000


def receive(log):
    while True:
        try:
            data = sock.recv(256)
        except BlockingIOError:
            return
        except OSError:
            continue
        log.write(f"r {data.decode()} {now()}\n")


with open(path, "w", buffering=1) as log:
    print("ready")
    number = 0
    due = time.monotonic()
    while True:
        # Spread over the interval, so that no burst waits in a queue.
        for at, (peer, address) in enumerate(peers):
            while True:
                left = due + interval * at / len(peers) - time.monotonic()
                if left <= 0:
                    break
                selector.select(left)
                receive(log)
            log.write(f"s {peer} {number} {now()}\n")
            try:
                sock.sendto(f"{name} {peer} {number}".encode(), (address, port))
            except OSError:
                pass  # Nobody can be reached there now: it is lost.
        number += 1
        due = max(due + interval, time.monotonic() - interval)
