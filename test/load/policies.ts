/**
 * Many policies: 1,000 of ten rules each, for 1,000 containers. How long they take to be in force, what memory they need, and how soon
 * a change is in force, on one host and on three with etcd.
 */
import { parseManifests } from '../../src/model/manifest.ts';
import { etcdCluster } from '../support/cluster.ts';
import { Lab, type Namespace } from '../support/lab.ts';
import { monotonicMs, until } from '../support/process.ts';
import { Weft } from '../support/weft.ts';
import { percentile, usedMemory } from './cluster/daemon.ts';
import { MIB } from './memory.ts';
import type { Report, Scenario } from './scenario.ts';

const NETWORK = 'blue';
const ENDPOINTS = 1000;
const POLICIES = 1000;
const RULES = 10;
/** Each endpoint has three policies, and no two have the same ones. */
const DISTANCES = [0, 97, 194] as const;
const CHANGES = 100;
const PATIENCE_MS = 30_000;
const promises = { memoryMib: 64, changeMs: 20, everywhereMs: 1000 } as const;

export const policies: readonly Scenario[] = [
  { name: 'policies/one-host', run: (report) => oneHost(report) },
  { name: 'policies/three-hosts', run: (report) => threeHosts(report) },
];

async function oneHost(report: Report): Promise<void> {
  const lab = new Lab();
  try {
    const host = await lab.namespace('host');
    const weft = await Weft.up(lab, host, 'host', { datapath: 'native', collectable: true });
    await weft.client.createNetwork(NETWORK, { subnets: ['10.0.0.0/16', 'fd00::/64'] });
    await weft.client.apply(endpointsOf(await containersOf(lab, 0, ENDPOINTS)));
    const before = await usedMemory(weft);
    report.value(`${POLICIES} policies of ${RULES} rules in force`, await timed(() => applyAll(weft)), 'ms');
    const grownMib = ((await usedMemory(weft)).heapBytes - before.heapBytes) / MIB;
    report.must(grownMib <= promises.memoryMib, `they need ${grownMib.toFixed(0)} MiB`);
    await changed(report, weft, 'that three endpoints have', ['In', 3]);
    await changed(report, weft, 'that all endpoints have', ['Exists']);
  } finally {
    await lab.close();
  }
}

async function threeHosts(report: Report): Promise<void> {
  const lab = new Lab();
  try {
    const cluster = await etcdCluster(lab, 3);
    const wefts = await cluster.up('native');
    await wefts[0]!.client.createNetwork(NETWORK, { subnets: ['10.0.0.0/16', 'fd00::/64'] });
    const each = Math.ceil(ENDPOINTS / wefts.length);
    for (const [at, weft] of wefts.entries()) {
      await weft.client.apply(endpointsOf(await containersOf(lab, at * each, each)));
    }
    const everywhere = async (weft: Weft): Promise<void> => {
      const { hosts } = await weft.client.wait(PATIENCE_MS);
      const behind = hosts.filter(({ state }) => state !== 'in force');
      if (behind.length > 0) throw new Error(`not in force: ${JSON.stringify(behind)}`);
    };
    for (const weft of wefts) {
      await until(async () => (await weft.status()).endpoints >= each * wefts.length, { what: 'all know all' });
    }
    const first = wefts[0]!;
    const appliedMs = await timed(async () => {
      await applyAll(first);
      await everywhere(first);
    });
    report.value(`${POLICIES} policies of ${RULES} rules in force on every host`, appliedMs, 'ms');
    const tookMs: number[] = [];
    for (let time = 0; time < CHANGES; time++) {
      const weft = wefts[time % wefts.length]!;
      tookMs.push(
        await timed(async () => {
          await weft.client.apply(manifests([policy(0, ['In', 3], time)]));
          await everywhere(weft);
        }),
      );
    }
    tell(report, 'one of them is replaced, and in force on every host', tookMs, promises.everywhereMs);
  } finally {
    await lab.close();
  }
}

/** One policy is replaced again and again, by one with other rules. */
async function changed(report: Report, weft: Weft, whose: string, whom: Whom): Promise<void> {
  const tookMs: number[] = [];
  for (let time = 0; time < CHANGES; time++) {
    const resources = manifests([policy(0, whom, time)]);
    tookMs.push(await timed(() => weft.client.apply(resources)));
  }
  tell(report, `one ${whose} is replaced, and in force`, tookMs, promises.changeMs);
}

function tell(report: Report, what: string, tookMs: readonly number[], promiseMs: number): void {
  const [p50Ms, p99Ms] = [percentile(tookMs, 50), percentile(tookMs, 99)];
  report.value(`${what}, p50`, p50Ms, 'ms');
  report.must(p99Ms <= promiseMs, `${what}, p99 ${p99Ms.toFixed(1)} ms after the request`);
}

async function applyAll(weft: Weft): Promise<void> {
  await weft.client.apply(manifests(Array.from({ length: POLICIES }, (_, n) => policy(n, ['In', 3], -1))));
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const startedMs = monotonicMs();
  await action();
  return monotonicMs() - startedMs;
}

function containersOf(lab: Lab, first: number, count: number): Promise<Namespace[]> {
  return lab.namespaces(Array.from({ length: count }, (_, at) => `c${first + at}`));
}

function endpointsOf(containers: readonly Namespace[]) {
  return manifests(
    containers.map(({ name }) => {
      const at = /\d+$/.exec(name)![0];
      return `apiVersion: weft.dev/v1
kind: Endpoint
metadata: { name: ${name}, labels: { at: "${at}" } }
spec: { network: ${NETWORK}, netns: ${name} }
`;
    }),
  );
}

/** Which endpoints a policy selects: so many, or all. */
type Whom = readonly ['In', number] | readonly ['Exists'];

/** @param version its rules differ from those of other versions */
function policy(n: number, [operator, count]: Whom, version: number): string {
  const places = DISTANCES.slice(0, count).map((distance) => `"${(n + POLICIES - distance) % ENDPOINTS}"`);
  const values = operator === 'In' ? `, values: [${places.join()}]` : '';
  const rules = Array.from({ length: RULES }, (_, rule) => {
    const number = n * RULES + rule;
    const cidr = `172.${16 + (number >> 12)}.${(number >> 4) & 255}.${(number & 15) << 4}/28`;
    const port = 1024 + (number % 40_000) + (rule === 0 ? version + 1 : 0);
    return `  - from: [{ podSelector: { matchLabels: { at: "${number % ENDPOINTS}" } } }, { ipBlock: { cidr: ${cidr} } }]
    ports: [{ port: ${port} }]
`;
  });
  return `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: p${n} }
spec:
  podSelector: { matchExpressions: [{ key: at, operator: ${operator}${values} }] }
  ingress:
${rules.join('')}`;
}

/** Each is a file: together they are larger than one may be. */
function manifests(documents: readonly string[]) {
  return documents.flatMap((document) => parseManifests(document, 'one.yaml'));
}
