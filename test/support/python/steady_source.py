"""Sends a byte every 20 ms over one TCP connection, and fails when that breaks: ADDRESS PORT."""
import socket
import sys
import time

INTERVAL_S = 0.020

address, port = sys.argv[1], int(sys.argv[2])
with socket.create_connection((address, port), timeout=20) as out:
    print("ready")
    while True:
        out.sendall(b".")
        time.sleep(INTERVAL_S)
