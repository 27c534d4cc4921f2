/**
 * A shared store with a hundred thousand endpoints of other hosts, on a real etcd: how long other work of the daemon waits
 * while all of it is read and compared, and how much memory a host needs to know it.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { FeedHost } from '../cluster/feed-host.ts';
import { startEtcd } from '../support/etcd.ts';
import { openStoreOf } from '../support/etcd-store.ts';
import { Lab } from '../support/lab.ts';
import type { Store } from '../../src/store/store.ts';
import type { LoadOptions, Report, Scenario } from './scenario.ts';

const HOSTS = 1000;
const PUT_AT_ONCE = 100;
const TIMES = 3;
const P99_MS = 20;
const WORST_MS = 100;

export const relist: readonly Scenario[] = [{ name: 'relist', run }];

async function run(report: Report, { sizes: { relisted: endpoints } }: LoadOptions): Promise<void> {
  const lab = new Lab();
  let host: FeedHost | undefined;
  let [writer, shared]: (Store | undefined)[] = [];
  try {
    const etcd = await startEtcd(lab);
    const open = (): Store => openStoreOf(etcd, { prefix: 'weft/state/' });
    writer = open();
    await fill(writer, endpoints);
    shared = open();
    const before = await heapBytes();
    const startMs = performance.now();
    host = await FeedHost.start('here', shared);
    const one = host;
    await one.until(() => one.inForce.size > endpoints, 'all endpoints');
    report.figure(`first listing: ${Math.round(performance.now() - startMs)} ms`);
    one.inForce.clear();

    for (let time = 1; time <= TIMES; time++) {
      await measured(report, 'audit', async () => {
        one.feed.audit();
        await one.until(() => one.report.audit.runs === time, 'the audit');
      });
    }
    report.figure(
      `${Math.round(((await heapBytes()) - before) / endpoints)} bytes of memory for each endpoint, in the feed alone`,
    );
    report.must(one.report.audit.mismatches === 0, `${one.report.audit.mismatches} mismatches`);
    for (let time = 1; time <= TIMES; time++) {
      const { lists } = one.link;
      await measured(report, 'listing after a loss of place', async () => {
        one.link.compact();
        await writer!.transact({ put: [{ key: 'networks/new', value: { time } }] });
        await one.until(
          () => (one.inForce.get('networks/new')?.value as { time?: number })?.time === time,
          'the change',
        );
      });
      report.must(one.link.lists > lists, 'it was listed');
    }
  } finally {
    await host?.stop();
    if (host) rmSync(host.directory, { recursive: true, force: true });
    await Promise.all([writer?.close(), shared?.close()]);
    await lab.close();
  }
}

async function measured(report: Report, what: string, work: () => Promise<unknown>): Promise<void> {
  const delays = monitorEventLoopDelay({ resolution: 1 });
  const [fromMs, before] = [performance.now(), process.cpuUsage()];
  delays.enable();
  await work();
  delays.disable();
  // The monitor counts its own resolution.
  const [p99, worst] = [delays.percentile(99) / 1e6 - 1, delays.max / 1e6 - 1];
  const figures = `p99 ${p99.toFixed(1)} ms, worst ${worst.toFixed(1)} ms`;
  const { user, system } = process.cpuUsage(before);
  const ms = Math.round(performance.now() - fromMs);
  const took = `${ms} ms (${Math.round((user + system) / 1000)} ms of processor time)`;
  report.must(p99 <= P99_MS && worst <= WORST_MS, `${what} takes ${took}, and delays the event loop by ${figures}`);
}

async function heapBytes(): Promise<number> {
  // Node.js keeps what its last immediate refers to until there is another one.
  for (let turn = 0; turn < 3; turn++) {
    await delay(20);
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (let time = 0; time < 2; time++) globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}

/** What other hosts have written. */
async function fill(store: Store, endpoints: number): Promise<void> {
  let put: { key: string; value: unknown }[] = [];
  const add = async (key: string, value: unknown): Promise<void> => {
    put.push({ key, value });
    if (put.length < PUT_AT_ONCE) return;
    await store.transact({ put });
    put = [];
  };
  for (let n = 0; n < HOSTS; n++) {
    await add(`hosts/h${n}`, { resource: resource('Host', `h${n}`, { underlay: `172.16.${n >> 8}.${n & 255}` }) });
  }
  for (let n = 0; n < endpoints; n++) {
    const [high, middle, low] = [n >> 16, (n >> 8) & 255, n & 255];
    const mac = `02:00:00:${[high, middle, low].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
    const endpoint = resource('Endpoint', `e${n}`, { network: 'blue', netns: `c${n}`, interface: 'eth0', publish: [] });
    const addresses = [`10.${1 + high}.${middle}.${low}`];
    await add(`endpoints/default/e${n}`, { resource: endpoint, addresses, mac, host: `h${n % HOSTS}` });
  }
  if (put.length > 0) await store.transact({ put });
}

function resource(kind: string, name: string, spec: object) {
  return { apiVersion: 'weft.dev/v1', kind, metadata: { name, labels: {} }, spec };
}
