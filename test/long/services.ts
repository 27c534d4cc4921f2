/**
 * What many services cost: loaded from the store, one change among all of them, and one endpoint among very many behind one
 * service; in the end all of them are removed. In processor time, because other programs run at the same time; and for how long
 * at most other work of the event loop had to wait.
 *
 *     node --expose-gc --import=tsx test/long/services.ts [--services 30000] [--backends 3] [--behind slices|selectors] [--times 20]
 *                                                         [--large 90000]
 *
 * `--behind slices` has no endpoints, so that what is measured is services alone. `--large` puts that many endpoints behind one
 * service.
 */
import { strict as assert } from 'node:assert';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Test } from 'tap';
import type { Put } from '../../src/store/store.ts';
import { manifest, openControlPlane, openStore } from '../cluster/control-plane.ts';

const { values } = parseArgs({
  options: {
    services: { type: 'string', default: '30000' },
    backends: { type: 'string', default: '3' },
    behind: { type: 'string', default: 'slices' },
    times: { type: 'string', default: '20' },
    large: { type: 'string', default: '0' },
  },
});
const [SERVICES, BACKENDS, TIMES, LARGE] = [values.services, values.backends, values.times, values.large].map(
  Number,
) as [number, number, number, number];
const HAS_SELECTORS = values.behind === 'selectors';
/** What is written in one transaction. */
const PER_TRANSACTION = 1000;

/** In the place of a test: tap follows each promise, which would be most of what is measured. */
function surroundings(): { readonly t: Test; readonly close: () => Promise<void> } {
  const closing: (() => unknown)[] = [];
  const t = {
    teardown: (work: () => unknown) => void closing.push(work),
    fail: (message: string) => assert.fail(message),
  } as unknown as Test;
  const close = async (): Promise<void> => {
    for (const one of closing.reverse()) await one();
  };
  return { t, close };
}

const ipOf = (first: number, n: number): string => `${first}.${64 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
const vipOf = (n: number): string => `10.96.${(n + 300) >> 8}.${(n + 300) & 255}`;
const web = (n: number): string => `web-${n}`;

const spec = (app: string | undefined) => ({
  ...(app !== undefined && { selector: { app } }),
  ports: [{ name: 'http', port: 80, targetPort: 8080 }],
});
const serviceAt = (name: string, vip: string, app: string | undefined): Put[] => [
  {
    key: `services/default/${name}`,
    value: {
      resource: manifest('Service', name, spec(app)),
      ...{ clusterIps: [vip], ipFamilies: ['IPv4'], nodePorts: [0] },
    },
  },
  { key: `vips/${vip}`, value: { service: `default/${name}` } },
];
const sliceOf = (n: number, ready = true): Put => ({
  key: `endpointslices/default/${web(n)}`,
  value: {
    resource: {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: web(n), namespace: 'default', labels: { 'kubernetes.io/service-name': web(n) } },
      addressType: 'IPv4',
      endpoints: Array.from({ length: BACKENDS }, (_, at) => ({
        addresses: [ipOf(10, n * BACKENDS + at + 256)],
        conditions: { ready: ready || at > 0 },
      })),
      ports: [{ name: 'http', port: 8080 }],
    },
  },
});
const endpointAt = (n: number, app: string): Put => ({
  key: `endpoints/default/e${n}`,
  value: {
    resource: manifest('Endpoint', `e${n}`, { network: 'blue', netns: '/run/app' }, { labels: { app } }),
    addresses: [ipOf(10, n + 256)],
    mac: `02:00:00:${[16, 8, 0].map((by) => ((n >> by) & 255).toString(16).padStart(2, '0')).join(':')}`,
    host: 'there',
  },
});
const hostRecord = (name: string, n: number) => ({
  resource: manifest('Host', name, { underlay: `192.0.2.${n}` }),
  ...{ host: name, id: String(n).padStart(32, '0'), mac: String(n).padStart(6, '0'), since: '2026-01-01T00:00:00Z' },
});

interface Cost {
  readonly cpuMs: number;
  readonly wallMs: number;
  /** Of the event loop: the longest one. */
  readonly turnMs: number;
}

async function costOf(work: () => Promise<unknown>): Promise<Cost> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const before = process.cpuUsage();
  const startedAt = performance.now();
  delay.enable();
  await work();
  const { user, system } = process.cpuUsage(before);
  const wallMs = performance.now() - startedAt;
  // A timer says how late it is, also because of the last turn.
  await setTimeout(2);
  delay.disable();
  return { cpuMs: (user + system) / 1000, wallMs, turnMs: Math.min(delay.max / 1e6, wallMs) };
}

function heapMib(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 1024 / 1024;
}

async function run(t: Test): Promise<void> {
  console.log(`${SERVICES} services with ${BACKENDS} backends each, behind ${values.behind}`);
  const store = await openStore(t);
  // A host has begun it already.
  const begun = surroundings();
  await openControlPlane(begun.t, undefined, { host: 'here', shared: store });
  await begun.close();
  const all: Put[] = [
    {
      key: 'networks/blue',
      value: { resource: manifest('Network', 'blue', { subnets: ['10.64.0.0/11'] }), vni: 7, mtu: 1450 },
    },
    { key: 'hosts/here', value: hostRecord('here', 1) },
    { key: 'hosts/there', value: hostRecord('there', 2) },
    { key: 'allotment/services', value: { subnets: ['10.96.0.0/15'] } },
  ];
  for (let n = 0; n < SERVICES; n++) {
    all.push(...serviceAt(web(n), vipOf(n), HAS_SELECTORS ? web(n) : undefined));
    if (!HAS_SELECTORS) all.push(sliceOf(n));
    else for (let at = 0; at < BACKENDS; at++) all.push(endpointAt(n * BACKENDS + at, web(n)));
  }
  if (LARGE > 0) all.push(...serviceAt('large', '10.97.250.1', 'large'));
  for (let n = 0; n < LARGE; n++) all.push(endpointAt(500_000 + n, 'large'));
  for (let first = 0; first < all.length; first += PER_TRANSACTION) {
    await store.transact({ put: all.slice(first, first + PER_TRANSACTION) });
  }
  const keys = all.map(({ key }) => key);
  all.length = 0;
  const before = heapMib();
  let plane!: Awaited<ReturnType<typeof openControlPlane>>;
  const loaded = await costOf(
    async () => (plane = await openControlPlane(t, undefined, { host: 'here', shared: store })),
  );
  const { tables } = plane.forwarding;
  assert.equal(tables.services.size, SERVICES + (LARGE > 0 ? 1 : 0));
  assert.equal(tables.services.get(`default/${web(SERVICES - 1)}`)?.backends.length ?? BACKENDS, BACKENDS);
  tell('loaded', [loaded]);
  // In the background, while everything is in force. The first change would be in force only behind that.
  tell('the copy of the state has all of it', [await costOf(() => plane.feed.kept())]);

  const times = async (what: string, work: (n: number) => Promise<unknown>): Promise<void> => {
    const costs: Cost[] = [];
    for (let n = 0; n < TIMES; n++) costs.push(await costOf(() => work(n)));
    tell(what, costs);
  };
  const write = (...puts: Put[]) => plane.write(Object.fromEntries(puts.map(({ key, value }) => [key, value])));
  if (SERVICES > 0) {
    await times('applied: a new service', (n) => plane.cluster.apply([manifest('Service', `new-${n}`, spec('new'))]));
    await times('written: a new service', (n) => write(...serviceAt(`other-${n}`, `10.97.251.${n}`, 'other')));
    const readyAt = (n: number) =>
      tables.services.get(`default/${web(n)}`)!.backends.filter(({ ready }) => ready).length;
    if (HAS_SELECTORS) {
      await times('an endpoint goes', async (n) => {
        await plane.write({ [`endpoints/default/e${n * BACKENDS}`]: undefined });
        assert.equal(readyAt(n), BACKENDS - 1);
      });
    } else {
      await times('a slice changes', async (n) => {
        await write(sliceOf(n, false));
        assert.equal(readyAt(n), BACKENDS - 1);
      });
    }
  }
  // Last, because a collection that is asked for has V8 compile anew what comes after it.
  console.log(`heap +${(heapMib() - before).toFixed(0)} MiB`);
  if (LARGE > 0) {
    await times('one of very many endpoints goes', async (n) => {
      await plane.write({ [`endpoints/default/e${500_000 + n * 7}`]: undefined });
      assert.equal(tables.services.get('default/large')!.backends.length, LARGE - n - 1);
    });
  }
  if (SERVICES === 0) return;
  const isOfOne = (key: string): boolean => /^(services|endpointslices|vips)\//.test(key);
  const removed = keys.filter(isOfOne);
  const removal = await costOf(async () => {
    for (let first = 0; first < removed.length; first += PER_TRANSACTION) {
      await store.transact({ delete: removed.slice(first, first + PER_TRANSACTION) });
    }
    await plane.cluster.serial.run(() => plane.cluster.enforce());
  });
  assert.equal(tables.services.get(`default/${web(0)}`), undefined);
  tell('all are removed', [removal]);
}

function tell(what: string, costs: readonly Cost[]): void {
  const of = (pick: (cost: Cost) => number): string => {
    const sorted = costs.map(pick).sort((a, b) => a - b);
    const [middle, last] = [sorted[sorted.length >> 1]!, sorted.at(-1)!];
    return `${middle.toFixed(1)}${costs.length > 1 ? ` (first ${pick(costs[0]!).toFixed(1)}, worst ${last.toFixed(1)})` : ''} ms`;
  };
  console.log(
    `${what}: processor ${of(({ cpuMs }) => cpuMs)}, wall ${of(({ wallMs }) => wallMs)}, turn ${of(({ turnMs }) => turnMs)}`,
  );
}

const { t, close } = surroundings();
try {
  await run(t);
} finally {
  await close();
}
