/** How often a running stream is decided anew: never, once its flows are cached. */
import { monotonicMs, until } from './process.ts';
import { checkIperf, iperfClient, iperfServer, ping } from './traffic.ts';
import type { Container } from './topology.ts';
import type { Weft } from './weft.ts';

const QUIET_MS = 2000;

export interface Seen {
  /** Frames that the switch received between the two looks. */
  readonly frames: number;
  readonly upcalls: number;
}

/** Compares the counters shortly after the beginning of a TCP stream with those shortly before its end. */
export async function upcallsDuringStream(weft: Weft, from: Container, to: Container, seconds: number): Promise<Seen> {
  await ping(from.namespace, to.ip4);
  await quiet(weft);
  const server = await iperfServer(to.namespace);
  const client = from.namespace.start(iperfClient(to.ip4, { seconds }));
  const reports = (): number => server.lines.filter(({ text }) => / sec .*bits\/sec/.test(text)).length;

  await until(() => reports() >= 3, { timeoutMs: 5000, what: 'the stream' });
  const before = (await weft.status()).datapath;
  // The server reports ten times a second.
  await until(() => reports() >= seconds * 10 - 5, {
    timeoutMs: seconds * 1000 + 5000,
    what: 'the end of the stream in sight',
  });
  const after = (await weft.status()).datapath;
  if (!client.isRunning) throw new Error('the stream ended too early to look');
  await client.wait(10_000);
  checkIperf(client.stdout);
  await server.wait(5000);
  return { frames: after.rx - before.rx, upcalls: after.upcalls - before.upcalls };
}

/** Waits until what a new container says by itself is said: detections, multicast reports, router solicitations. */
async function quiet(weft: Weft): Promise<void> {
  let last = { upcalls: -1, atMs: 0 };
  await until(
    async () => {
      const { upcalls } = (await weft.status()).datapath;
      if (upcalls !== last.upcalls) last = { upcalls, atMs: monotonicMs() };
      return monotonicMs() - last.atMs > QUIET_MS;
    },
    { timeoutMs: 20_000, what: `no new flows for ${QUIET_MS} ms` },
  );
}
