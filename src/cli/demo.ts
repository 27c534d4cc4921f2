/**
 * The demonstration: a whole overlay network on one machine, within a minute.
 *
 *   1. two or more hosts on an underlay, `weft up` on each; with `--store etcd` they share one, which is started first
 *   2. one network with IPv4 and IPv6, two containers on each host
 *   3. every container pings every other
 *   4. basic: iperf3 on one host and across, `weft trace`: how a frame would be decided, `weft why`: how a live flow was.
 *      failover: a host loses its power (demo/failover.ts)
 *   5. what was measured, and everything removed (or kept, with how to explore it)
 *
 * It types what an operator would: every step is a command of weft or iproute2.
 */
import { Client } from '../api/client.ts';
import { WeftError } from '../error.ts';
import type { EndpointReport } from '../model/report.ts';
import { eventually, requirePrograms, run } from './demo/commands.ts';
import { failover } from './demo/failover.ts';
import { roundTrip, throughputMbps, type RoundTrip } from './demo/measure.ts';
import { network, planFor, type Container, type Host, type Plan } from './demo/plan.ts';
import { say } from './demo/say.ts';
import * as stage from './demo/stage.ts';
import { colours, table, write } from './print.ts';

const STREAM_SECONDS = 2;
const IPERF_PORT = 5201;

/** How long a host may take to know what another one has declared. */
const KNOWN_MS = 20_000;

export interface DemoOptions {
  readonly hosts: number;
  readonly store: Plan['store'];
  readonly scenario: 'basic' | 'failover';
  readonly keep: boolean;
}

/** Round trip times; undefined if there was no answer. */
interface Pair {
  readonly from: Container;
  readonly to: Container;
  readonly trip4: RoundTrip | undefined;
  readonly trip6: RoundTrip | undefined;
}

interface Stream {
  readonly from: Container;
  readonly to: Container;
  readonly mbps4: number;
  readonly mbps6: number;
}

/** @throws WeftError if it cannot run here, a step fails, or not every pair is reachable */
export async function demo(options: DemoOptions): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new WeftError('system', 'weft demo needs root to make network namespaces: run it as root or with sudo');
  }
  requirePrograms(options.store);
  const plan = planFor(options.hosts, options.store);

  const interruption = new AbortController();
  const interrupt = (name: NodeJS.Signals): void => {
    interruption.abort(new WeftError('system', `interrupted (${name}), everything removed`));
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, interrupt);

  const cleaned = await stage.claim();
  let kept: readonly Container[] | undefined;
  try {
    if (cleaned === 'cleaned') await say('removed what an earlier demo had left');
    const containers = await perform(plan, options.scenario, interruption.signal);
    if (options.keep) kept = containers;
  } catch (error) {
    throw interruption.signal.aborted ? interruption.signal.reason : error;
  } finally {
    if (kept) {
      stage.release();
      await write(keptText(plan, kept));
    } else {
      await stage.clear();
      await say('removed everything');
    }
    for (const signal of signals) process.off(signal, interrupt);
  }
}

async function perform(plan: Plan, scenario: DemoOptions['scenario'], signal: AbortSignal): Promise<Container[]> {
  const { hosts, store } = plan;
  const named = `hosts ${listText(hosts.map(({ name }) => name))}`;
  const addresses = listText(hosts.map(({ underlay }) => underlay));
  await say(
    `${named}: namespaces on a ${hosts.length === 2 && store === 'embedded' ? 'cable' : 'bridge'}, ${addresses}`,
  );
  await stage.buildUnderlay(plan, signal);
  if (store === 'etcd') {
    await say('etcd, which all hosts share');
    await stage.startEtcd(signal);
  }
  for (const host of hosts) {
    await say(`weft up on ${host.name}`);
    await stage.startDaemon(host, plan, signal);
  }

  const containers: Container[] = [];
  for (const [at, host] of hosts.entries()) {
    if (store === 'embedded' || at === 0) {
      const vni = store === 'embedded' ? `, VNI ${network.vni}` : '';
      await say(`network ${network.name} (${network.subnets.join(', ')}${vni}) on ${host.name}`);
      await createNetwork(host, plan, signal);
    }
    await eventually(() => networkOn(host), KNOWN_MS, signal);
    for (const name of host.containers) containers.push(await attach(host, name, signal));
  }

  await say(`${containers.length * (containers.length - 1)} pairs ping each other over IPv4 and IPv6`);
  const pairs = await pingAll(containers, signal);
  const unreachable = pairs.filter(({ trip4, trip6 }) => trip4 === undefined || trip6 === undefined).length;

  const [web, db, api] = containers as [Container, Container, Container];
  const streams: Stream[] = [];
  if (unreachable === 0 && scenario === 'basic') {
    streams.push(await measure(web, db, 'on one host', signal));
    streams.push(await measure(web, api, 'across hosts', signal));
    await explain(web, api, signal);
  }
  if (scenario === 'basic' || unreachable > 0) await write(`\n${await resultText(plan, pairs, streams)}\n`);
  if (unreachable > 0)
    throw new WeftError('system', `${unreachable} of ${pairs.length} pairs could not reach each other`);
  if (scenario === 'failover') {
    await say('all of them answer');
    await failover(plan, containers, signal);
  }
  return containers;
}

/** @throws WeftError while the host does not know the network */
async function networkOn(host: Host): Promise<void> {
  const known = await new Client(stage.socketOf(host)).networks();
  if (!known.some(({ name }) => name === network.name))
    throw new WeftError('system', `${host.name} does not know network ${network.name}`);
}

async function createNetwork(host: Host, { store }: Plan, signal: AbortSignal): Promise<void> {
  const { name, subnets, vni } = network;
  await weft(
    host,
    [
      ...['network', 'create', name, ...(store === 'embedded' ? ['--vni', String(vni)] : [])],
      ...subnets.flatMap((subnet) => ['--subnet', subnet]),
      ...host.ranges.flatMap((range) => ['--range', range]),
    ],
    signal,
  );
}

async function attach(host: Host, name: string, signal: AbortSignal): Promise<Container> {
  await stage.addNamespace(name, signal);
  const words = ['attach', name, '--network', network.name, '--netns', stage.namespaceOf(name), '-o', 'json'];
  const { addresses, mac } = JSON.parse(await weft(host, words, signal)) as EndpointReport;
  await say(`container ${name} on ${host.name}: ${addresses.join(', ')}`);
  const [ip4, ip6] = [addresses.find((ip) => !ip.includes(':')), addresses.find((ip) => ip.includes(':'))];
  if (ip4 === undefined || ip6 === undefined) throw new WeftError('internal', `${name} got no address of each family`);
  return { name, host, ip4, ip6, mac };
}

async function pingAll(containers: readonly Container[], signal: AbortSignal): Promise<Pair[]> {
  const pairs: Pair[] = [];
  for (const from of containers) {
    for (const to of containers) {
      if (from === to) continue;
      const [trip4, trip6] = await Promise.all([
        roundTrip(from.name, to.ip4, signal),
        roundTrip(from.name, to.ip6, signal),
      ]);
      pairs.push({ from, to, trip4, trip6 });
    }
  }
  return pairs;
}

async function measure(from: Container, to: Container, where: string, signal: AbortSignal): Promise<Stream> {
  await say(`iperf3 ${where}, ${from.name} → ${to.name}: ${STREAM_SECONDS} s over IPv4, ${STREAM_SECONDS} s over IPv6`);
  const mbps4 = await throughputMbps(from.name, { name: to.name, ip: to.ip4 }, STREAM_SECONDS, signal);
  const mbps6 = await throughputMbps(from.name, { name: to.name, ip: to.ip6 }, STREAM_SECONDS, signal);
  return { from, to, mbps4, mbps6 };
}

/** Shows how a frame would be decided, and how the busiest live flow between hosts was. */
async function explain(from: Container, to: Container, signal: AbortSignal): Promise<void> {
  const flow = `in_port=${from.name},eth_dst=${to.mac},tcp,ip_dst=${to.ip4},tcp_dst=${IPERF_PORT}`;
  await show(from.host, ['trace', flow], `weft trace '${flow}'`, signal);

  const flows = await new Client(stage.socketOf(from.host)).flows();
  const [busiest] = flows.filter(({ actions }) => actions.includes('encap')).toSorted((a, b) => b.bytes - a.bytes);
  if (!busiest) throw new WeftError('internal', 'no flow between hosts is cached after the streams');
  await show(
    from.host,
    ['why', String(busiest.id)],
    `weft why ${busiest.id}   # the busiest flow from ${from.host.name} to another host`,
    signal,
  );
}

async function show(host: Host, words: readonly string[], title: string, signal: AbortSignal): Promise<void> {
  const paint = await colours();
  await write(`\n${paint('bold', `$ ${title}`)}\n${indent(await weft(host, words, signal))}\n`);
}

/** Runs this executable against the daemon of a host. */
function weft(host: Host, words: readonly string[], signal: AbortSignal): Promise<string> {
  return run([...stage.weft, '--socket', stage.socketOf(host), ...words], signal);
}

async function resultText({ hosts }: Plan, pairs: readonly Pair[], streams: readonly Stream[]): Promise<string> {
  const ms = (trip: RoundTrip | undefined): string =>
    trip === undefined ? 'no answer' : `${trip.ms.toFixed(2)} ms${trip.lost > 0 ? ` (${trip.lost} lost)` : ''}`;
  const gbps = (value: number | undefined): string => (value === undefined ? '' : `${(value / 1000).toFixed(2)} Gb/s`);
  const rows = pairs.map(({ from, to, trip4, trip6 }) => {
    const stream = streams.find((candidate) => candidate.from === from && candidate.to === to);
    return [
      `${from.name} → ${to.name}`,
      from.host === to.host ? from.host.name : `${from.host.name} → ${to.host.name}`,
      ms(trip4),
      ms(trip6),
      gbps(stream?.mbps4),
      gbps(stream?.mbps6),
    ];
  });
  const heads = ['CONTAINERS', 'HOSTS', 'PING IPV4', 'PING IPV6', 'TCP IPV4', 'TCP IPV6'];
  const text = [await table(heads, rows, 'no pairs')];
  for (const host of hosts) {
    const { datapath } = await new Client(stage.socketOf(host)).status();
    text.push(
      `${host.name}: ${datapath.rx.toLocaleString('en')} frames received, ` +
        `${datapath.upcalls.toLocaleString('en')} of them decided in TypeScript, the rest by ${datapath.flows} cached flows\n`,
    );
  }
  return text.join('');
}

function keptText(plan: Plan, containers: readonly Container[]): string {
  const [alpha, beta] = plan.hosts as [Host, Host];
  const [web, , api] = containers as [Container, Container, Container];
  const on = (host: Host, words: string): string => `  $weft --socket ${stage.socketOf(host)} ${words}\n`;
  return [
    '\nIt goes on. To explore it:\n',
    `  weft='${stage.weft.join(' ')}'\n`,
    on(alpha, 'status'),
    on(alpha, 'endpoints'),
    on(alpha, 'flows'),
    on(alpha, `trace 'in_port=${web.name},icmp,ip_dst=${api.ip4}'`),
    on(beta, 'drops'),
    `  ip netns exec ${stage.namespaceOf(web.name)} ping ${api.ip4}\n`,
    '\nTo remove it:\n',
    ...stage.removal(plan).map((line) => `  ${line}\n`),
  ].join('');
}

/** `alpha, beta and gamma` */
function listText(words: readonly string[]): string {
  return `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
}

function indent(text: string): string {
  return text.trimEnd().replaceAll(/^(?=.)/gm, '  ');
}
