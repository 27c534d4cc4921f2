/** What a connection and a probe notice when the daemon is killed and started again. */
import { readFileSync } from 'node:fs';
import type { Namespace } from './lab.ts';
import { monotonicMs, until, type Line } from './process.ts';
import type { Container } from './topology.ts';
import { iperfClient, iperfServer, python } from './traffic.ts';
import type { Weft } from './weft.ts';

const PROBE_PORT = 7007;
/** Longer than everything that is measured meanwhile; then it is ended. */
const STREAM_SECONDS = 600;
/** How many intervals of a tenth of a second, before the kill and after it. */
const INTERVALS = 5;
const DATA_BYTES = 1000;

export interface Restart {
  /** From the kill until the TCP connection carried data again; checked every 15 ms. */
  readonly dataAgainMs: number;
  /** From the command that starts the daemon until a probe arrived. */
  readonly probeAgainMs: number;
}

/**
 * Kills the daemon under a TCP stream and a UDP probe every 10 ms between two containers, and
 * starts it again at once.
 * @throws if the connection breaks, or an interface is lost, doubled or changed
 */
export async function killAndRestart(weft: Weft, from: Container, to: Container): Promise<Restart> {
  const links = (): Promise<string[]> => Promise.all([from, to].map(({ namespace }) => linkIdentity(namespace)));
  const linksBefore = await links();
  const endpointsBefore = await weft.json('endpoints');

  const probe = await startProbe(from.namespace, to);
  const server = await iperfServer(to.namespace);
  const client = from.namespace.start(iperfClient(to.ip4, { seconds: STREAM_SECONDS }));
  await until(() => transfers(server.lines) >= INTERVALS && probe.arrivals().length > 10, {
    what: 'traffic before the kill',
  });

  const killedAtMs = await weft.kill();
  const dataAgain = receivesData(server.pid);
  const restartedAtMs = monotonicMs();
  await weft.start();
  const probeAtMs = await until(() => probe.arrivals().find((atMs) => atMs > restartedAtMs), {
    what: 'a probe after the restart',
  });
  const dataAtMs = await dataAgain;
  const again = transfers(server.lines);
  await until(() => transfers(server.lines) >= again + INTERVALS, { what: 'the connection goes on' });
  if (!client.isRunning) throw new Error(`iperf3 has ended: ${client.stdout}`);
  await client.stop('SIGKILL');
  await server.stop('SIGKILL');
  await probe.stop();

  equal('interfaces', linksBefore, await links());
  equal('endpoints', endpointsBefore, await weft.json('endpoints'));
  return { dataAgainMs: dataAtMs - killedAtMs, probeAgainMs: probeAtMs - restartedAtMs };
}

/**
 * A UDP probe every 10 ms. `arrivals` says when each came, in milliseconds of CLOCK_MONOTONIC; `numbers` which ones.
 */
export async function startProbe(
  from: Namespace,
  to: Pick<Container, 'namespace' | 'ip4'>,
): Promise<{ arrivals(): number[]; numbers(): number[]; stop(): Promise<void> }> {
  const sink = to.namespace.start(python('udp_probe_sink.py', PROBE_PORT));
  await sink.says('ready');
  const probe = from.start(python('udp_probe.py', to.ip4, PROBE_PORT));
  return {
    arrivals: () => arrivals(sink.lines),
    numbers: () => sink.lines.map(({ text }) => Number(text.split(' ')[0])).filter((number) => !Number.isNaN(number)),
    stop: async () => {
      await probe.stop();
      await sink.stop();
    },
  };
}

/** Intervals in which the server received something. */
function transfers(lines: readonly Line[]): number {
  return lines.filter(({ text }) => /-[\d.]+ +sec +[1-9][\d.]* +\w*Bytes/.test(text)).length;
}

/** The time when data comes in by `eth0` of a process: more than probes at once. Call it while nothing is forwarded. */
async function receivesData(pid: number): Promise<number> {
  let last = receivedBytes(pid);
  return until(
    () => {
      const bytes = receivedBytes(pid);
      const isData = bytes - last >= DATA_BYTES;
      last = bytes;
      return isData ? monotonicMs() : undefined;
    },
    { what: 'data of the connection after the restart' },
  );
}

function receivedBytes(pid: number): number {
  const [, bytes] = /^ *eth0: *(\d+)/m.exec(readFileSync(`/proc/${pid}/net/dev`, 'utf8')) ?? [];
  if (bytes === undefined) throw new Error(`process ${pid} has no eth0`);
  return Number(bytes);
}

function arrivals(lines: readonly Line[]): number[] {
  return lines.map(({ text }) => Number(text.split(' ')[1])).filter((atMs) => !Number.isNaN(atMs));
}

/** Its links with index, MAC and addresses: a replaced interface would have another index. */
export async function linkIdentity(namespace: Container['namespace']): Promise<string> {
  const links = JSON.parse(await namespace.run(['ip', '-j', 'addr'])) as {
    readonly ifindex: number;
    readonly ifname: string;
    readonly address: string;
    readonly mtu: number;
    readonly addr_info: readonly { readonly local: string; readonly prefixlen: number }[];
  }[];
  return JSON.stringify(
    links.map(({ ifindex, ifname, address, mtu, addr_info }) => {
      const addresses = addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`).sort();
      return { ifindex, ifname, address, mtu, addresses };
    }),
  );
}

function equal(what: string, before: unknown, after: unknown): void {
  const [a, b] = [JSON.stringify(before), JSON.stringify(after)];
  if (a !== b) throw new Error(`${what} are not as before: ${a} became ${b}`);
}
