"""One workload of a truth table: it answers whoever asks, and asks whom it is told to: NAME PORT…

It listens on each port, over TCP and UDP, IPv4 and IPv6, and answers with its name. A line on standard input says whom to
ask, all at once, as JSON: a list of [kind, address, port], where kind is tcp, udp, dns-tcp or dns-udp. Questions from before
are given up. The line `answers` has it print what has been answered so far, as JSON by the place in that list: the name, or the
error; the line `sources`, from which port it has asked. A datagram that is not answered is sent again each second, as the kernel does with TCP; and so is whatever found no way,
as when nobody has said yet whose the address is.
"""
import json
import os
import selectors
import socket
import struct
import sys
import time

AGAIN_S = 1.0
# An A question for "kubernetes.".
QUESTION = struct.pack("!6H", 0x7766, 0x0100, 1, 0, 0, 0) + b"\x0akubernetes\x00" + struct.pack("!2H", 1, 1)

name, ports = sys.argv[1], [int(port) for port in sys.argv[2:]]
selector = selectors.DefaultSelector()
questions = []
asking = {}
answers = {}
sources = {}


def listen(family, kind, port):
    one = socket.socket(family, kind)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("", port))
    one.setblocking(False)
    if kind == socket.SOCK_STREAM:
        one.listen(1024)
    selector.register(one, selectors.EVENT_READ, lambda: serve(one, kind))


def serve(one, kind):
    try:
        if kind == socket.SOCK_STREAM:
            client = one.accept()[0]
            client.sendall(name.encode())
            client.close()
        else:
            _, client = one.recvfrom(64)
            one.sendto(name.encode(), client)
    except OSError:
        pass


class Question:
    def __init__(self, number, kind, address, port):
        self.number = number
        self.is_dns = kind.startswith("dns-")
        self.is_tcp = kind.endswith("tcp")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM if self.is_tcp else socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect_ex((address, port))
        sources[number] = self.socket.getsockname()[1]
        waits = selectors.EVENT_WRITE if self.is_tcp and self.is_dns else selectors.EVENT_READ
        selector.register(self.socket, waits, self.ready)
        if not self.is_tcp:
            self.send()

    def send(self):
        try:
            self.socket.send(QUESTION if self.is_dns else b"?")
        except OSError as error:
            self.over(type(error).__name__)

    def ready(self):
        try:
            if self.is_tcp and self.is_dns and selector.get_key(self.socket).events == selectors.EVENT_WRITE:
                self.socket.sendall(struct.pack("!H", len(QUESTION)) + QUESTION)
                selector.modify(self.socket, selectors.EVENT_READ, self.ready)
                return
            answer = self.socket.recv(512)
            self.over("dns" if self.is_dns and answer else answer.decode() or "closed")
        except BlockingIOError:
            pass
        except OSError as error:
            self.over(type(error).__name__)

    def over(self, answer):
        answers[self.number] = answer
        self.close()

    def close(self):
        if asking.pop(self.number, None) or self.socket.fileno() >= 0:
            selector.unregister(self.socket)
            self.socket.close()


rest = b""


def read_lines():
    """Without a buffer in between, where a line could wait unseen."""
    global rest
    data = os.read(0, 1 << 20)
    if not data:
        sys.exit(0)
    *lines, rest = (rest + data).split(b"\n")
    for line in lines:
        told(line)


def told(line):
    if line in (b"answers", b"sources"):
        print(json.dumps(answers if line == b"answers" else sources), flush=True)
        return
    for one in list(asking.values()):
        one.close()
    answers.clear()
    sources.clear()
    questions[:] = json.loads(line)
    for number in range(len(questions)):
        ask(number)


def ask(number):
    one = Question(number, *questions[number])
    if number not in answers:
        asking[number] = one


for family in (socket.AF_INET, socket.AF_INET6):
    for port in ports:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            listen(family, kind, port)
selector.register(sys.stdin, selectors.EVENT_READ, read_lines)
print("ready", flush=True)
again = time.monotonic() + AGAIN_S
while True:
    for key, _ in selector.select(max(0.0, again - time.monotonic())):
        # One of those before may have closed it.
        if key.fileobj.fileno() >= 0:
            key.data()
    if time.monotonic() >= again:
        again = time.monotonic() + AGAIN_S
        for one in list(asking.values()):
            if not one.is_tcp:
                one.send()
        for number in [number for number, answer in answers.items() if answer == "OSError"]:
            del answers[number]
            ask(number)
