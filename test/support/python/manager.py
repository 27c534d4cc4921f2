"""A service manager with the part of systemd's protocol that weft uses: SOCKET SECONDS COMMAND…

Runs COMMAND, tells it where to notify, and keeps descriptors for it. Prints each line that it is told, with the pid that
said so. Lines on standard input: `kill` ends the main process, `start` starts the command again with the descriptors that
are kept, `reload` sends SIGHUP to the main process, `stop` SIGTERM, `kept` prints the names of what is kept. The watchdog
interval is SECONDS; a main process that is silent for that long is told of, once.
"""
import array
import ctypes
import os
import selectors
import signal
import socket
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
path, seconds, command = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind(path)
server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
kept = []  # name, descriptor
main = 0
alive = None


def start():
    global main
    passed = list(kept)
    main = os.fork()
    if main > 0:
        return
    os.setsid()
    environment = dict(os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC=str(int(seconds * 1e6)))
    if passed:
        # Out of the way first: a descriptor may have a number that another one is to get.
        high = [os.dup2(fd, 500 + at) for at, (_, fd) in enumerate(passed)]
        for at, fd in enumerate(high):
            os.dup2(fd, 3 + at)
            os.close(fd)
        environment |= {
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": str(len(passed)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in passed),
        }
    os.execvpe(command[0], command, environment)


def drop(name):
    for at in [each for each in kept if each[0] == name]:
        os.close(at[1])
        kept.remove(at)


def take():
    global main, alive
    data, control, _, _ = server.recvmsg(65536, 8192)
    fds, sender = array.array("i"), 0
    for level, kind, value in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(value[: len(value) - len(value) % fds.itemsize])
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            sender = int.from_bytes(value[:4], sys.byteorder)
    said = dict(line.split("=", 1) for line in data.decode().split("\n") if line)
    if "FDSTORE" in said:
        kept.extend((said["FDNAME"], os.dup(fd)) for fd in fds if not same(fd))
    if "FDSTOREREMOVE" in said:
        drop(said["FDNAME"])
    for fd in fds:
        os.close(fd)
    if "MAINPID" in said:
        main = int(said["MAINPID"])
    if "WATCHDOG" in said:
        alive = time.monotonic()
    if not {"FDSTORE", "FDSTOREREMOVE", "BARRIER"} & set(said):
        print(sender, " ".join(f"{key}={value}" for key, value in said.items()), flush=True)


def same(fd):
    # KCMP_FILE
    kcmp = lambda other: ctypes.CDLL(None).syscall(312, os.getpid(), os.getpid(), 0, fd, other)
    return any(kcmp(other) == 0 for _, other in kept)


def obey(line):
    if line == "start":
        start()
    elif line == "kept":
        print("kept", *sorted(name for name, _ in kept), flush=True)
    elif line == "main":
        print("main", main, flush=True)
    else:
        os.kill(main, {"kill": signal.SIGKILL, "reload": signal.SIGHUP, "stop": signal.SIGTERM}[line])


selector = selectors.DefaultSelector()
selector.register(server, selectors.EVENT_READ)
selector.register(sys.stdin, selectors.EVENT_READ)
start()
while True:
    for key, _ in selector.select(0.05):
        if key.fileobj is server:
            take()
            continue
        # As it comes: what Python has read ahead is nothing that `select` sees.
        text = os.read(0, 65536).decode()
        if not text:
            os.kill(main, signal.SIGKILL)
            sys.exit()
        for line in text.split():
            obey(line)
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0] > 0:
            print("ended", ended[0], "main" if ended[0] == main else "other", flush=True)
    except ChildProcessError:
        pass
    if alive and time.monotonic() - alive > seconds:
        print("silent", main, flush=True)
        alive = None
