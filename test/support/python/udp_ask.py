"""Asks questions, each from a new source port, and fails unless all are answered: ADDRESS PORT COUNT."""
import os
import socket
import sys

ANSWER_S = 30

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
unanswered = 0
for _ in range(count):
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(ANSWER_S)
        client.connect((address, port))
        question = os.urandom(40)
        client.send(question)
        try:
            if client.recv(2048) != question[::-1]:
                unanswered += 1
        except OSError:
            unanswered += 1
if unanswered:
    sys.exit(f"{unanswered} of {count} questions to {address} were not answered")
