/** What the scenarios about the overlay itself have in common: one network, two containers on each host, all of which ping each other. */
import { Client } from '../../api/client.ts';
import { WeftError } from '../../error.ts';
import type { EndpointReport } from '../../model/report.ts';
import { table, write } from '../print.ts';
import { eventually } from './commands.ts';
import { roundTrip, type RoundTrip } from './measure.ts';
import { onHost, weft } from './on-host.ts';
import { network, type Container, type Host, type Plan } from './plan.ts';
import { say } from './say.ts';
import * as stage from './stage.ts';

/** How long a host may take to know what another one has declared. */
const KNOWN_MS = 20_000;

/** Round trip times; undefined if there was no answer. */
interface Pair {
  readonly from: Container;
  readonly to: Container;
  readonly trip4: RoundTrip | undefined;
  readonly trip6: RoundTrip | undefined;
}

export interface MeasuredPair {
  readonly from: Container;
  readonly to: Container;
  readonly mbps4: number;
  readonly mbps6: number;
}

export interface Overlay {
  readonly containers: readonly Container[];
  readonly pairs: readonly Pair[];
}

/** @throws WeftError unless every container reaches every other one */
export async function buildOverlay(plan: Plan, signal: AbortSignal): Promise<Overlay> {
  const { hosts, store } = plan;
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
  if (unreachable > 0) {
    await write(`\n${await pairsTable(pairs, [])}\n`);
    throw new WeftError('system', `${unreachable} of ${pairs.length} pairs could not reach each other`);
  }
  return { containers, pairs };
}

/** What people can look at while it goes on: shell commands. */
export function explorations(plan: Plan, containers: readonly Container[]): string[] {
  const [alpha, beta] = plan.hosts as [Host, Host];
  const [web, , api] = containers as [Container, Container, Container];
  return [
    onHost(alpha, 'status'),
    onHost(alpha, 'endpoints'),
    onHost(alpha, 'flows'),
    onHost(alpha, `trace 'in_port=${web.name},icmp,ip_dst=${api.ip4}'`),
    onHost(beta, 'drops'),
    `ip netns exec ${stage.namespaceOf(web.name)} ping ${api.ip4}`,
  ];
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

/** The round trips, and the throughput where it was measured. */
export function pairsTable(pairs: readonly Pair[], streams: readonly MeasuredPair[]): Promise<string> {
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
  return table(heads, rows, 'no pairs');
}
