/** How often a running stream is decided anew: never, once its flows are cached. */
import { monotonicMs, until } from './process.ts';
import { iperfClient, iperfServer, ping } from './traffic.ts';
import type { Namespace } from './lab.ts';
import type { Weft } from './weft.ts';

const QUIET_MS = 2000;
/** Of the stream between the looks, at least. */
const FRAMES = 1000;
/** So that the stream is not over before it was looked at twice, whoever has to wait for a processor. */
const SPARE_SECONDS = 300;

export interface Seen {
  /** Frames that the switch received between the two looks. */
  readonly frames: number;
  readonly upcalls: number;
}

export interface Stream {
  readonly from: Namespace;
  readonly to: Namespace;
  /** Where `to` is reached. */
  readonly ip: string;
}

/**
 * Compares the counters of two moments of a TCP stream that are `seconds` or more apart: for each stream, one after
 * another.
 */
export async function upcallsDuring(weft: Weft, streams: readonly Stream[], seconds: number): Promise<Seen[]> {
  for (const { from, to, ip } of streams) {
    // Nobody asks for routers meanwhile: that would be a flow of its own.
    for (const namespace of [from, to]) await namespace.run(['sysctl', '-qw', 'net.ipv6.conf.eth0.accept_ra=0']);
    await ping(from, ip);
  }
  await quiet(weft);
  const seen: Seen[] = [];
  for (const each of streams) seen.push(await upcallsDuringOne(weft, each, seconds));
  return seen;
}

async function upcallsDuringOne(weft: Weft, { from, to, ip }: Stream, seconds: number): Promise<Seen> {
  const server = await iperfServer(to);
  const client = from.start(iperfClient(ip, { seconds: seconds + SPARE_SECONDS }));
  const reports = (): number => server.lines.filter(({ text }) => / sec .*bits\/sec/.test(text)).length;

  await until(() => reports() >= 3, { what: `the stream to ${ip}` });
  const before = (await weft.status()).datapath;
  // The server reports ten times a second.
  const after = await until(
    async () => {
      if (reports() < 3 + seconds * 10) return undefined;
      const now = (await weft.status()).datapath;
      return now.rx > before.rx + FRAMES ? now : undefined;
    },
    { timeoutMs: 60_000 + 2000 * seconds, what: `${FRAMES} frames of the stream` },
  );
  await client.stop('SIGKILL');
  await server.stop('SIGKILL');
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
    { what: `no new flows for ${QUIET_MS} ms` },
  );
}
