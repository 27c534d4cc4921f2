/** One TCP connection that carries a byte every 10 ms there and back, and the pauses that it makes. */
import type { Namespace } from './lab.ts';
import { until } from './process.ts';

const PORT = 7000;

/** Answers every byte with the same byte. */
const echoes = `
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('0.0.0.0', ${PORT})); s.listen()
print('listening', flush=True)
c, _ = s.accept(); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while True:
    d = c.recv(64)
    if not d: break
    c.sendall(d)
`;
/** Sends a byte every 10 ms, and prints how many were answered, and how long the last answer was awaited. */
const asks = (ip: string): string => `
import socket, time, threading
s = socket.create_connection(('${ip}', ${PORT})); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def send():
    while True: s.sendall(b'x'); time.sleep(0.01)
threading.Thread(target=send, daemon=True).start()
last = time.monotonic(); count = 0
while True:
    n = len(s.recv(4096))
    if n == 0: print('closed', flush=True); break
    now = time.monotonic(); pause = now - last; last = now; count += n
    print(count, round(pause * 1000), flush=True)
`;
/** How many bytes are answered before a connection counts as one that goes on. */
const ENOUGH = 100;

export interface Talk {
  readonly isClosed: () => boolean;
  /** Does something meanwhile, and waits until the connection goes on. @returns its longest pause, in milliseconds */
  readonly during: (work: () => Promise<unknown>) => Promise<number>;
  readonly stop: () => Promise<void>;
}

/** Returns when both talk. */
export async function startTalk(client: Namespace, server: Namespace, ip: string): Promise<Talk> {
  const answering = server.start(['python3', '-u', '-c', echoes]);
  await until(() => answering.stdout.includes('listening'), { what: 'the server listens' });
  const asking = client.start(['python3', '-u', '-c', asks(ip)]);
  const answers = (): number[][] =>
    asking.stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => line.split(' ').map(Number));
  const count = (): number => answers().at(-1)?.[0] ?? 0;
  const goesOn = async (): Promise<void> => {
    const before = count();
    await until(() => count() > before + ENOUGH, { what: 'the connection goes on' });
  };
  await goesOn();
  return {
    isClosed: () => asking.stdout.includes('closed'),
    during: async (work) => {
      const before = answers().length;
      await work();
      await goesOn();
      return Math.max(
        ...answers()
          .slice(before)
          .map(([, pauseMs = 0]) => pauseMs),
      );
    },
    stop: async () => {
      await Promise.all([answering.stop('SIGKILL'), asking.stop('SIGKILL')]);
    },
  };
}
