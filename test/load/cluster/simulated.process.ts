/**
 * Many switches on a shared store in this one process (`simulated-switch.ts`). Tells what it measures by messages.
 *
 *   node --expose-gc --import=tsx simulated.process.ts HOSTS ENDPOINTS etcd://HOST:PORT DIRECTORY NETNS
 *
 * Their interfaces are all in one network namespace, where none of them is: ports are in memory.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseResource } from '../../../src/model/manifest.ts';
import type { Resource } from '../../../src/model/resource.ts';
import { udp } from '../../support/frames.ts';
import { monotonicMs, until } from '../../support/process.ts';
import { percentile, ticksOf } from './daemon.ts';
import { SimulatedSwitch, Wire } from './simulated-switch.ts';

/** What the parent is told: a value, or in how many milliseconds each new endpoint was reached from all hosts. */
export type SimulatedTold =
  | { readonly kind: 'value'; readonly name: string; readonly value: number; readonly unit: string }
  | { readonly kind: 'reached'; readonly p99Ms: number; readonly count: number }
  | { readonly kind: 'endpointBytes'; readonly bytes: number }
  | { readonly kind: 'failed'; readonly why: string };

const NETWORK = 'blue';
const ADDED = 100;
const SENT_EVERY_MS = 10;
/** How many switches start at once. */
const AT_ONCE = 5;

const [hostCount = '', endpointCount = '', store = '', directory = '', netns = ''] = process.argv.slice(2);
const HOSTS = Number(hostCount);
const EACH = Math.ceil(Number(endpointCount) / HOSTS);

const tell = (told: SimulatedTold): boolean => process.send!(told);
const value = (name: string, figure: number, unit: string): void =>
  void tell({ kind: 'value', name, value: figure, unit });

/** When the first frame of each host came to an endpoint. */
const arrivedMs = new Map<string, Map<string, number>>();
const wire = new Wire();
const hosts: SimulatedSwitch[] = [];

async function run(): Promise<void> {
  await timed(`${HOSTS} switches start, ${AT_ONCE} at once`, async () => {
    for (let host = 0; host < HOSTS; host += AT_ONCE) {
      const some = Array.from({ length: Math.min(AT_ONCE, HOSTS - host) }, (_, at) => open(host + at));
      hosts.push(...(await Promise.all(some)));
    }
  });
  await hosts[0]!.sw.createNetwork(NETWORK, { subnets: ['10.0.0.0/16'] });
  await until(() => hosts.every(({ sw }) => sw.networks().length === 1), { what: 'all know the network' });
  const emptyBytes = await usedBytes();
  await timed(`${HOSTS * EACH} endpoints applied, and known to all`, async () => {
    // One host after the other, because all of them follow each change on the same processor.
    for (const [at, { sw }] of hosts.entries()) {
      await sw.apply(Array.from({ length: EACH }, (_, one) => endpoint(`c${at * EACH + one}`)));
      const isKnown = (): boolean => hosts.every(({ parts }) => parts.endpoints.size === (at + 1) * EACH);
      await until(isKnown, { what: `all know the endpoints of ${at + 1} hosts` });
    }
  });
  tell({ kind: 'endpointBytes', bytes: ((await usedBytes()) - emptyBytes) / (HOSTS * HOSTS * EACH) });
  await measureAdded();
  await until(() => hosts.every(areAllUp), { what: 'all hear each other' });
  value('hosts that hear all others', HOSTS, 'hosts');
  for (const host of hosts) await host.close();
}

function areAllUp({ parts }: SimulatedSwitch): boolean {
  const peers = parts.peers.report();
  return peers.length === HOSTS - 1 && peers.every(({ state }) => state === 'up');
}

function open(at: number): Promise<SimulatedSwitch> {
  return SimulatedSwitch.open({
    name: `host-${at}`,
    underlay: `192.0.2.${at + 1}`,
    state: join(directory, `state-${at}`),
    ...{ store, wire },
    onFrame: (name, frame) => {
      const arrived = arrivedMs.get(name);
      const from = frame.subarray(26, 30).join('.');
      if (arrived && !arrived.has(from)) arrived.set(from, monotonicMs());
    },
  });
}

/** New endpoints, one after the other: the first endpoint of each other host sends to it until the first frame is there. */
async function measureAdded(): Promise<void> {
  const senders = hosts.map((host) => {
    const { name, mac, addresses } = host.parts.endpoints.all().find((one) => one.state === 'attached')!;
    return { host, name, mac, ip: addresses[0]! };
  });
  const tookMs: number[] = [];
  const [startedMs, before] = [monotonicMs(), ticksOf(process.pid)];
  for (let at = 0; at < ADDED; at++) {
    const host = hosts[at % HOSTS]!;
    const name = `new-${at}`;
    const arrived = new Map<string, number>();
    arrivedMs.set(name, arrived);
    const commandedMs = monotonicMs();
    await host.sw.apply([endpoint(name)]);
    const { mac, addresses } = host.parts.endpoints.get(name);
    const others = senders.filter((sender) => sender.host !== host);
    while (arrived.size < others.length) {
      for (const sender of others) {
        if (arrived.has(sender.ip)) continue;
        const ends = { srcMac: sender.mac, dstMac: mac, src: sender.ip, dst: addresses[0]! };
        sender.host.inject(sender.name, udp(ends, 7033, 7033));
      }
      await delay(SENT_EVERY_MS);
    }
    tookMs.push(Math.max(...arrived.values()) - commandedMs);
  }
  const [seconds, now] = [(monotonicMs() - startedMs) / 1000, ticksOf(process.pid)];
  value('event loop’s processor time meanwhile, of all hosts', (now.main - before.main) / seconds, '%');
  value('event loop waits for a processor meanwhile', (now.waitedNs - before.waitedNs) / 1e7 / seconds, '%');
  value('new endpoint reachable from every host, p50', percentile(tookMs, 50), 'ms');
  tell({ kind: 'reached', p99Ms: percentile(tookMs, 99), count: tookMs.length });
}

function endpoint(name: string): Resource {
  return parseResource({
    apiVersion: 'weft.dev/v1',
    kind: 'Endpoint',
    metadata: { name },
    spec: { network: NETWORK, netns, interface: name },
  });
}

async function timed(what: string, work: () => Promise<unknown>): Promise<void> {
  const startedMs = monotonicMs();
  await work();
  value(what, monotonicMs() - startedMs, 'ms');
}

/** After garbage collection. */
async function usedBytes(): Promise<number> {
  await delay(1000);
  globalThis.gc!();
  return process.memoryUsage().heapUsed;
}

process.on('disconnect', () => process.exit(1));
run().then(
  () => process.exit(),
  (error: unknown) => {
    tell({ kind: 'failed', why: error instanceof Error ? `${error.message}\n${error.stack}` : String(error) });
    process.exit(1);
  },
);
