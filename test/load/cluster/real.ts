/**
 *   ┌ a ─────────────┐  ┌ b ─────────────┐      ┌ e ─────────────┐
 *   │ 200 containers │  │ 200 containers │  …   │ 200 containers │
 *   │      weft      │  │      weft      │      │      weft      │
 *   └───────┬────────┘  └───────┬────────┘      └───────┬────────┘
 *           └───────────────────┴── one bridge ─────────┴── etcd
 *
 * Real daemons on hosts of their own, with a thousand real containers: how soon a new one is reached from every host, how soon
 * what is applied is in force on all of them, and what a daemon uses.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { parseManifests } from '../../../src/model/manifest.ts';
import { etcdCluster } from '../../support/cluster.ts';
import { Lab, type Namespace } from '../../support/lab.ts';
import { monotonicMs, until, type Background } from '../../support/process.ts';
import { python } from '../../support/traffic.ts';
import type { Weft } from '../../support/weft.ts';
import type { LoadOptions, Report, Scenario } from '../scenario.ts';
import { EtcdMeter, percentile, tellUsage, Usage } from './daemon.ts';

const NETWORK = 'blue';
/** How many are attached, one after the other, and waited for from every host. */
const ADDED = 100;
const ADDED_EVERY_MS = 100;
const REACHABLE_P99_MS = 1000;
/** How often something is applied, and waited for until all hosts have it in force. */
const APPLIED = 200;
const APPLIED_P99_MS = 1000;
/** How long one of them may take at all. */
const PATIENCE_MS = 30_000;

export const real: readonly Scenario[] = [{ name: 'cluster/real', run }];

async function run(report: Report, { sizes: { realHosts, realEndpoints, window } }: LoadOptions): Promise<void> {
  const lab = new Lab();
  try {
    const cluster = await etcdCluster(lab, realHosts);
    const wefts = await cluster.up('native');
    await wefts[0]!.client.createNetwork(NETWORK, { subnets: ['10.0.0.0/16'] });
    const meter = await EtcdMeter.open(cluster.hosts[0]!.namespace, cluster.etcd);
    const each = Math.ceil(realEndpoints / realHosts);
    const containers: Namespace[][] = [];
    for (const { name } of cluster.hosts) {
      containers.push(await lab.namespaces(Array.from({ length: each }, (_, at) => `${name}${at}`)));
    }
    const startedMs = monotonicMs();
    await Promise.all(wefts.map((weft, at) => weft.client.apply(manifestsOf(containers[at]!))));
    report.value(
      `${each * realHosts} endpoints applied on ${realHosts} hosts at once`,
      monotonicMs() - startedMs,
      'ms',
    );
    for (const weft of wefts) {
      await until(async () => (await weft.status()).endpoints >= each * realHosts, { what: 'all know all' });
    }

    const senders = containers.map(([first]) => first!);
    const resting = await Usage.start(wefts[0]!, meter);
    await delay(window * 1000);
    tellUsage('at rest', report.value.bind(report), await resting.stop());

    const added = await lab.namespaces(Array.from({ length: ADDED }, (_, at) => `new${at}`));
    await measureAdded(lab, report, wefts, senders, added);
    await measureApplied(report, wefts, containers);

    const one = wefts[0]!;
    await one.kill();
    const killedMs = monotonicMs();
    await one.start();
    report.value('start after a kill', monotonicMs() - killedMs, 'ms');
    const attached = (await one.client.endpoints()).filter(({ state }) => state === 'attached').length;
    const wanted = each + Math.ceil(ADDED / realHosts);
    report.must(attached === wanted, `after the kill, ${attached} of ${wanted} are attached again`);
  } finally {
    await lab.close();
  }
}

/** Attaches the namespaces, and waits for the first datagram from each host at each of them. */
async function measureAdded(
  lab: Lab,
  report: Report,
  wefts: readonly Weft[],
  senders: readonly Namespace[],
  added: readonly Namespace[],
): Promise<void> {
  const sender = lab.start(python('udp_reach.py', ...senders.map(({ path }) => path)));
  const receiver = lab.start(python('udp_arrivals.py', ...added.map(({ path }) => path)));
  await Promise.all([sender.says('ready'), receiver.says('ready')]);
  const commandedMs: number[] = [];
  const attachMs: number[] = [];
  for (const [at, namespace] of added.entries()) {
    const atMs = monotonicMs();
    commandedMs.push(atMs);
    const { addresses } = await wefts[at % wefts.length]!.client.attach({
      name: `new-${at}`,
      network: NETWORK,
      netns: namespace.name,
    });
    attachMs.push(monotonicMs() - atMs);
    for (const from of senders.keys()) sender.write(`+ ${from} ${addresses[0]}\n`);
    await until(() => arrivals(receiver, at).length === senders.length, { what: `all reach ${addresses[0]}` });
    sender.write(`- ${addresses[0]}\n`);
    await delay(Math.max(0, atMs + ADDED_EVERY_MS - monotonicMs()));
  }
  const everywhereMs = commandedMs.map((atMs, at) => Math.max(...arrivals(receiver, at)) - atMs);
  report.value('attach, p50', percentile(attachMs, 50), 'ms');
  report.value('attach, p99', percentile(attachMs, 99), 'ms');
  report.value('new endpoint reachable from every host, p50', percentile(everywhereMs, 50), 'ms');
  const p99Ms = percentile(everywhereMs, 99);
  report.value('new endpoint reachable from every host, p99', p99Ms, 'ms');
  report.must(
    p99Ms <= REACHABLE_P99_MS,
    `a new endpoint is reachable from every host, p99 ${p99Ms.toFixed(0)} ms after the command`,
  );
}

/** What `apply --wait` does, on one host after the other: a changed endpoint is stored, and in force on all hosts. */
async function measureApplied(
  report: Report,
  wefts: readonly Weft[],
  containers: readonly (readonly Namespace[])[],
): Promise<void> {
  const tookMs: number[] = [];
  for (let time = 0; time < APPLIED; time++) {
    const at = time % wefts.length;
    const { client } = wefts[at]!;
    const [resource] = manifestsOf(containers[at]!.slice(0, 1), { changed: `${time}` });
    const startedMs = monotonicMs();
    await client.apply([resource!]);
    const { hosts } = await client.wait(PATIENCE_MS);
    tookMs.push(monotonicMs() - startedMs);
    const behind = hosts.filter(({ state }) => state !== 'in force');
    if (behind.length > 0) throw new Error(`not in force: ${JSON.stringify(behind)}`);
  }
  report.value('applied, and in force on every host, p50', percentile(tookMs, 50), 'ms');
  const p99Ms = percentile(tookMs, 99);
  report.value('applied, and in force on every host, p99', p99Ms, 'ms');
  report.must(
    p99Ms <= APPLIED_P99_MS,
    `what is applied is in force on all ${wefts.length} hosts, p99 ${p99Ms.toFixed(0)} ms after the command`,
  );
}

/** When the first datagram of each host came to a namespace. */
function arrivals({ lines }: Background, at: number): number[] {
  return lines.flatMap(({ text }) => {
    const [number, , atMs] = text.split(' ');
    return number === `${at}` ? [Number(atMs)] : [];
  });
}

function manifestsOf(containers: readonly Namespace[], labels: Readonly<Record<string, string>> = {}) {
  const documents = containers.map(
    ({ name }) =>
      `---\napiVersion: weft.dev/v1\nkind: Endpoint\nmetadata: { name: ${name}, labels: ${JSON.stringify(labels)} }\nspec: { network: ${NETWORK}, netns: ${name} }\n`,
  );
  return parseManifests(documents.join(''), 'all.yaml');
}
