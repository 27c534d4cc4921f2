"""Backends and clients of a service, over TCP.

mesh.py serve NAME PORT                      answers each question with NAME, until the client closes the connection
mesh.py load ADDRESS PORT OWN RATE           so many connections a second, each for one question
mesh.py hold ADDRESS PORT OWN COUNT PAUSE_MS keeps connections open, on each of which it asks again and again

OWN is `own` or `shared`: whether each connection has a port that no other socket in the namespace has, also if that one leads
elsewhere. They begin with `ready`. For each line on standard input, each prints what it has seen since it began, as JSON. The line
`drain` tells `serve` to accept nobody any more, and `stop` tells `load` to open nothing any more; both end when their last
connection is over. The end of the input ends all of them.
"""
import collections
import errno
import heapq
import json
import selectors
import socket
import sys
import time

LATE_S = 0.3
# An answer that has not come so long after the end is lost.
LOST_S = 20
ANSWER_BYTES = 64
HANDSHAKE_PAUSE_S = 0.005
# As /proc/net/tcp has it.
SYN_RECV = "03"


def why(error):
    """OSError alone may be anything."""
    name = type(error).__name__
    return f"OSError {errno.errorcode.get(error.errno)}" if name == "OSError" else name


# For `bind` and `connect`: the kernel chooses a port that nobody has.
ANY_PORT = ("", 0)


class Program:
    """Waits for sockets, for times, and for lines of its standard input."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ, self.read_line)
        self.ends = False

    def run(self, timeout=lambda: None):
        print("ready", flush=True)
        while not self.ends:
            for key, _ in self.selector.select(timeout()):
                # One of those before may have closed it.
                if key.fileobj.fileno() >= 0:
                    key.data()
        print(json.dumps(self.report()), flush=True)

    def read_line(self):
        line = sys.stdin.readline()
        if not line:
            sys.exit(0)
        if line == "report\n":
            print(json.dumps(self.report()), flush=True)
        else:
            self.told(line.strip())

    def watch(self, one, events, called):
        try:
            self.selector.modify(one, events, called)
        except KeyError:
            self.selector.register(one, events, called)

    def forget(self, one):
        self.selector.unregister(one)
        one.close()


def handshakes(port):
    """Whether one is under way with a client of that port here."""
    end = f":{port:04X}"
    for name in ("tcp", "tcp6"):
        with open(f"/proc/net/{name}") as lines:
            if any(local.endswith(end) and state == SYN_RECV for _, local, _, state, *_ in map(str.split, lines)):
                return True
    return False


class Server(Program):
    def __init__(self, name, port):
        super().__init__()
        self.answer = name.encode()
        self.port = port
        self.drains = False
        self.accepted = self.open = self.closed = 0
        self.resets = []
        self.listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)

    def report(self):
        return {"accepted": self.accepted, "open": self.open, "closed": self.closed, "resets": self.resets}

    def told(self, _):
        self.drains = True

    def due(self):
        """Ends listening once no handshake is under way: its connection would be reset. Returns when to look again."""
        if not self.drains or self.listener.fileno() < 0:
            return None
        if handshakes(self.port):
            return HANDSHAKE_PAUSE_S
        # Those that the kernel has accepted already are served.
        self.listener.setblocking(False)
        try:
            while True:
                self.accept()
        except BlockingIOError:
            self.forget(self.listener)
        self.ends = self.open == 0
        return 0 if self.ends else None

    def accept(self):
        one = self.listener.accept()[0]
        self.accepted += 1
        self.open += 1
        self.watch(one, selectors.EVENT_READ, lambda: self.serve(one))

    def serve(self, one):
        try:
            asked = one.recv(ANSWER_BYTES)
            # It is over when the client has got the last answer, and closes it.
            if asked:
                return one.sendall(self.answer)
            self.closed += 1
        except OSError as error:
            self.resets.append(type(error).__name__)
        self.forget(one)
        self.open -= 1
        self.ends = self.open == 0 and self.listener.fileno() < 0


class Load(Program):
    def __init__(self, address, port, own, rate):
        super().__init__()
        self.to = (address, port)
        self.own = own
        self.interval = 1 / rate
        self.begun = self.open = 0
        self.stopped = False
        self.answered = collections.Counter()
        self.failed = []
        self.late = []
        self.next = time.monotonic()
        # When each that is open began.
        self.waiting = {}
        self.until = None

    def report(self):
        names = "begun open answered failed late"
        return {name: getattr(self, name) for name in names.split()}

    def told(self, _):
        self.stopped = True
        self.until = time.monotonic() + LOST_S
        self.ends = self.open == 0

    def due(self):
        """Opens what is due, and at the end gives up what has no answer: its backend has gone without a word, and TCP does not tell.
        Returns how long it is until the next time."""
        while not self.stopped:
            now = time.monotonic()
            if self.next > now:
                return self.next - now
            self.next += self.interval
            self.begin(now)
        left = self.until - time.monotonic()
        if left <= 0:
            for one, begun in list(self.waiting.items()):
                self.over(one, begun, "no answer")
        return max(0, left)

    def begin(self, now):
        one = socket.socket(socket.AF_INET6 if ":" in self.to[0] else socket.AF_INET)
        one.setblocking(False)
        if self.own:
            one.bind(ANY_PORT)
        one.connect_ex(self.to)
        self.begun += 1
        self.open += 1
        self.waiting[one] = now
        self.watch(one, selectors.EVENT_WRITE, lambda: self.connected(one, now))

    def connected(self, one, begun):
        try:
            one.sendall(b"!")
            self.watch(one, selectors.EVENT_READ, lambda: self.receive(one, begun))
        except OSError as error:
            self.over(one, begun, why(error))

    def receive(self, one, begun):
        try:
            answer = one.recv(ANSWER_BYTES)
            if answer:
                self.answered[answer.decode()] += 1
            self.over(one, begun, None if answer else "closed")
        except OSError as error:
            self.over(one, begun, why(error))

    def over(self, one, begun, failure):
        self.forget(one)
        del self.waiting[one]
        self.open -= 1
        self.ends = self.stopped and self.open == 0
        took = time.monotonic() - begun
        if failure is not None:
            self.failed.append([begun * 1000, took * 1000, failure])
        elif took > LATE_S:
            self.late.append([begun * 1000, took * 1000])


class Hold(Program):
    def __init__(self, address, port, own, count, pause):
        super().__init__()
        self.pause = pause
        self.backends = collections.defaultdict(lambda: {"open": 0, "exchanges": 0, "broken": []})
        self.waiting = []
        now = time.monotonic()
        for number in range(count):
            one = socket.create_connection((address, port), timeout=60, source_address=ANY_PORT if own else None)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.sendall(b"?")
            name = one.recv(ANSWER_BYTES)
            self.backends[name.decode()]["open"] += 1
            self.selector.register(one, selectors.EVENT_READ, self.receiver(one, number, name))
            heapq.heappush(self.waiting, (now + pause * number / count, number, one))

    def receiver(self, one, number, name):
        return lambda: self.receive(one, number, name)

    def report(self):
        return self.backends

    def due(self):
        """Asks where it is time to. Returns how long it is until the next time."""
        while self.waiting:
            at, number, one = self.waiting[0]
            now = time.monotonic()
            if at > now:
                return at - now
            heapq.heappop(self.waiting)
            try:
                one.sendall(b"?")
            except OSError:
                pass  # It is also readable.
        return None

    def receive(self, one, number, name):
        backend = self.backends[name.decode()]
        try:
            answer = one.recv(ANSWER_BYTES)
            if answer == name:
                backend["exchanges"] += 1
                heapq.heappush(self.waiting, (time.monotonic() + self.pause, number, one))
                return
            backend["broken"].append(answer.decode() or "closed")
        except OSError as error:
            backend["broken"].append(type(error).__name__)
        backend["open"] -= 1
        self.forget(one)
        self.waiting = [each for each in self.waiting if each[2] is not one]
        heapq.heapify(self.waiting)


verb, subject, port, *more = sys.argv[1:]
if verb == "serve":
    server = Server(subject, int(port))
    server.run(server.due)
else:
    own, *numbers = more
    if verb == "load":
        load = Load(subject, int(port), own == "own", float(numbers[0]))
        load.run(load.due)
    else:
        hold = Hold(subject, int(port), own == "own", int(numbers[0]), float(numbers[1]) / 1000)
        hold.run(hold.due)
