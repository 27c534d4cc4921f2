"""Opens connections and keeps them: hold_connections.py ADDRESS PORT COUNT. Prints on how many of them a question was answered."""
import socket
import sys
import time

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = [socket.create_connection((address, port), timeout=30) for _ in range(count)]
answered = 0
for connection in held:
    try:
        connection.sendall(b"hello")
        answered += len(connection.recv(1000)) > 0
    except OSError:
        pass
print(answered, flush=True)
time.sleep(600)
