"""Types a command line and Tab in an interactive bash: tab.py RCFILE LINE. Prints what the line has become."""
import os
import pty
import sys

rcfile, line = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp('bash', ['bash', '--noprofile', '--rcfile', rcfile, '-i'])
seen = b''


def read_until(marker):
    global seen
    while marker not in seen:
        seen += os.read(terminal, 4096)
    before, seen = seen.split(marker, 1)
    return before


# The echo of what is typed has the quotes in it, the output has not.
os.write(terminal, b"stty -echo; bind 'set enable-bracketed-paste off'; echo rea''dy\n")
read_until(b'ready\r\n')
os.write(terminal, line.encode() + b'\t\x01echo "beg""in<\x05>e""nd"\n')
read_until(b'begin<')
print(read_until(b'>end').decode(), end='')
os.write(terminal, b'exit\n')
os.waitpid(pid, 0)
