/**
 *   ┌ left ──────────┐              ┌ right ─────────┐
 *   │ a1 ─┐          │              │          ┌─ b1 │
 *   │     ├─ weft ───┼── underlay ──┼─── weft ─┤     │
 *   │ a2 ─┘          │              │          └─ b2 │
 *   └────────────────┘              └────────────────┘
 *
 * Mixed load for many minutes, a line every ten seconds.
 *
 *     npm run soak -- --minutes 10 [--datapath native|reference] [--store etcd]
 *
 * Fails unless the memory of both daemons stops growing after the warm-up, no datagram of a
 * flow is overtaken or damaged, the only reason for drops is that undecided flows wait, and
 * every frame is accounted for.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import t from 'tap';
import type { StatusReport } from '../../src/model/report.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { MixedLoad, type Arrivals } from '../support/mixed-load.ts';
import { monotonicMs, until } from '../support/process.ts';
import { attachContainer, overlay, underlay, likeAWire } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { dropsOf, modeName, storeKinds, twoHosts, type Mode } from '../support/two-hosts.ts';
import { conservationError, datapathKinds, type DatapathKind, type Weft } from '../support/weft.ts';

/** How much each of the two kinds of memory may grow: memory outside of JavaScript's heap, and what the heap keeps. */
const memorySlackBytes = { native: 2e6, reference: 6e6 } satisfies Record<DatapathKind, number>;
const LINE_MS = 10_000;
/** Bounds that the load may reach: frames of flows that are not decided yet. */
const EXPECTED_DROPS = ['upcall_parked_full', 'upcall_queue_full'];

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    datapath: { type: 'string', default: 'native' },
    store: { type: 'string', default: 'static peers' },
  },
});
const seconds = Number(values.minutes) * 60;
const datapath = datapathKinds.find((kind) => kind === values.datapath);
const store = storeKinds.find((kind) => kind === values.store);
if (!(seconds >= 60) || datapath === undefined || store === undefined) {
  console.error('usage: npm run soak -- [--minutes N, 1 or more] [--datapath native|reference] [--store etcd]');
  process.exit(2);
}
/** By then a daemon has taken the memory that it needs for itself. */
const warmUpSeconds = Math.min(120, seconds / 4);

/** The memory of a daemon `atSeconds` after the load began, just after garbage collection. */
interface Sample {
  readonly atSeconds: number;
  /** Resident memory without JavaScript's heap. */
  readonly nativeBytes: number;
  readonly heapUsedBytes: number;
}

t.setTimeout((seconds + 180) * 1000);

await t.test(`${modeName({ datapath, store })}: ${values.minutes} min`, async (t) => {
  const lab = openLab(t);
  const { daemons, containers } = await place(lab, { datapath, store });
  const before = await statuses(daemons);
  const samples = daemons.map((): Sample[] => []);

  const startMs = monotonicMs();
  const load = await MixedLoad.start(containers, seconds);
  for (let atMs = 0; atMs < seconds * 1000; atMs = monotonicMs() - startMs) {
    await delay(LINE_MS);
    const now = await Promise.all(daemons.map((daemon) => daemon.collected()));
    now.forEach(({ memory: { rssBytes, heapTotalBytes, heapUsedBytes } }, n) =>
      samples[n]!.push({ atSeconds: atMs / 1000, nativeBytes: rssBytes - heapTotalBytes, heapUsedBytes }),
    );
    t.comment(line(atMs / 1000, now, load.arrivals()));
  }
  await load.stop();
  const after = await quiet(daemons);
  t.comment(line((monotonicMs() - startMs) / 1000, after, load.arrivals()));

  const { received, misordered, shortFlows, damaged } = load.arrivals();
  t.ok(received > 0 && shortFlows > 0, `${received} numbered datagrams and ${shortFlows} of short flows arrived`);
  t.equal(misordered, 0, 'none was overtaken within its flow');
  t.equal(damaged, 0, 'none was damaged');
  after.forEach((status, n) => {
    for (const [kind, bytes] of [
      ['native memory', (sample: Sample) => sample.nativeBytes],
      ['the heap', (sample: Sample) => sample.heapUsedBytes],
    ] as const) {
      const first = median(between(samples[n]!, warmUpSeconds, 2 * warmUpSeconds).map(bytes));
      const last = median(between(samples[n]!, (seconds * 3) / 4, seconds).map(bytes));
      const figures = `${megabytes(first)} MB after the warm-up, ${megabytes(last)} MB in the last quarter`;
      t.ok(last - first < memorySlackBytes[datapath], `${status.host}: ${kind} does not grow: ${figures}`);
    }
    t.equal(conservationError(status), undefined, `${status.host}: ${status.datapath.rx} frames are accounted for`);
    t.ok(status.datapath.segments > 0 && status.datapath.coalesced > 0, `${status.host}: superframes were on the way`);
    const drops = difference(dropsOf(status, { datapath, store }), before[n]!.datapath.drops);
    const unexpected = Object.keys(drops).filter((reason) => !EXPECTED_DROPS.includes(reason));
    t.same(unexpected, [], `${status.host}: dropped ${JSON.stringify(drops)}`);
  });
});

async function place(lab: Lab, mode: Mode) {
  const under = await underlay(lab, 'ipv4');
  await likeAWire(under);
  const { left, right, createNetwork } = await twoHosts(lab, under, mode, { collectable: true });
  await createNetwork(overlay.create);
  const containers = {
    a1: await attachContainer(lab, left, 'a1', 11),
    a2: await attachContainer(lab, left, 'a2', 12),
    b1: await attachContainer(lab, right, 'b1', 21),
    b2: await attachContainer(lab, right, 'b2', 22),
  };
  for (const { ip4, ip6 } of Object.values(containers).slice(1)) {
    await ping(containers.a1.namespace, ip4);
    await ping(containers.a1.namespace, ip6);
  }
  return { daemons: [left, right], containers };
}

function statuses(daemons: readonly Weft[]): Promise<StatusReport[]> {
  return Promise.all(daemons.map((daemon) => daemon.status()));
}

/** Waits until nothing moves any more. */
function quiet(daemons: readonly Weft[]): Promise<StatusReport[]> {
  let last = '';
  return until(
    async () => {
      const now = await statuses(daemons);
      const counters = JSON.stringify(now.map(({ datapath }) => [datapath.rx, datapath.tx]));
      const isQuiet = counters === last && now.every(({ datapath }) => datapath.held === 0);
      last = counters;
      return isQuiet ? now : undefined;
    },
    { what: 'both hosts quiet' },
  );
}

function line(atSeconds: number, now: readonly StatusReport[], arrivals: Arrivals): string {
  const hosts = now.map(({ host, memory, datapath }) => {
    const drops = Object.values(datapath.drops).reduce((sum, count) => sum + count, 0);
    const { rssBytes, heapTotalBytes, heapUsedBytes } = memory;
    const parts = `${megabytes(rssBytes - heapTotalBytes)} + ${megabytes(heapUsedBytes)} of ${megabytes(heapTotalBytes)}`;
    return `${host} ${parts} MB, ${datapath.rx} frames, ${drops} drops`;
  });
  const { received, lost, misordered } = arrivals;
  return `${atSeconds.toFixed(0)} s: ${hosts.join(' | ')} | numbered ${received}, lost ${lost}, misordered ${misordered}`;
}

/** The samples between two times. */
function between(samples: readonly Sample[], fromSeconds: number, toSeconds: number): Sample[] {
  return samples.filter(({ atSeconds }) => atSeconds >= fromSeconds && atSeconds < toSeconds);
}

function median(values: readonly number[]): number {
  const middle = values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
  if (middle === undefined) throw new Error('no sample');
  return middle;
}

/** What was counted since `before`. */
function difference(
  now: Readonly<Record<string, number>>,
  before: Readonly<Record<string, number>>,
): Record<string, number> {
  const changes = Object.entries(now).map(([name, count]) => [name, count - (before[name] ?? 0)] as const);
  return Object.fromEntries(changes.filter(([, count]) => count > 0));
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
