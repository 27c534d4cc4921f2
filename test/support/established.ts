/** How many upcalls a running stream causes: none, once its flows are cached. */
import { monotonicMs, until } from './process.ts';
import { iperfClient, iperfServer, ping } from './traffic.ts';
import type { Namespace } from './lab.ts';
import type { Weft } from './weft.ts';

const QUIET_MS = 2000;
/** Frames of the stream between the two looks, at least. */
const FRAMES = 1000;
/** Long enough that the stream does not end before it was looked at twice, even if something waits for a processor. */
const SPARE_SECONDS = 300;

export interface Seen {
  /** Frames that the switch received between the two looks. */
  readonly frames: number;
  readonly upcalls: number;
}

export interface Stream {
  readonly from: Namespace;
  readonly to: Namespace;
  /** The address of `to`. */
  readonly ip: string;
}

/**
 * Compares the counters of two moments of a TCP stream that are at least `seconds` apart, for one stream after the
 * other.
 */
export async function upcallsDuring(weft: Weft, streams: readonly Stream[], seconds: number): Promise<Seen[]> {
  for (const { from, to, ip } of streams) {
    // Router solicitations would be a flow of their own, so they are switched off.
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

/**
 * Waits until a new container has sent everything that it sends by itself: duplicate address detection, multicast
 * reports, router solicitations.
 */
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
