/**
 * The demonstration: a whole overlay network on one machine, within a minute.
 *
 *   1. two hosts on an underlay, `weft up` on each
 *   2. one network with IPv4 and IPv6, two containers on each host
 *   3. every container pings every other
 *   4. iperf3 on one host and across
 *   5. `weft trace`: how a frame would be decided; `weft why`: how a live flow was
 *   6. what was measured, and everything removed (or kept, with how to explore it)
 *
 * It types what an operator would: every step is a command of weft or iproute2.
 */
import { Client } from '../api/client.ts';
import { WeftError } from '../error.ts';
import type { EndpointReport } from '../model/report.ts';
import { requirePrograms, run } from './demo/commands.ts';
import { roundTrip, throughputMbps, type RoundTrip } from './demo/measure.ts';
import * as stage from './demo/stage.ts';
import { colours, table, write } from './print.ts';

const STREAM_SECONDS = 2;
const IPERF_PORT = 5201;

interface Container {
  readonly name: string;
  readonly host: stage.Host;
  readonly ip4: string;
  readonly ip6: string;
  readonly mac: string;
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
export async function demo(options: { readonly keep: boolean }): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new WeftError('system', 'weft demo needs root to make network namespaces: run it as root or with sudo');
  }
  requirePrograms();

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
    const containers = await perform(interruption.signal);
    if (options.keep) kept = containers;
  } catch (error) {
    throw interruption.signal.aborted ? interruption.signal.reason : error;
  } finally {
    if (kept) {
      stage.release();
      await write(keptText(kept));
    } else {
      await stage.clear();
      await say('removed everything');
    }
    for (const signal of signals) process.off(signal, interrupt);
  }
}

async function perform(signal: AbortSignal): Promise<Container[]> {
  const [alpha, beta] = stage.hosts;
  await say(`hosts ${alpha.name} and ${beta.name}: namespaces on a cable, ${alpha.underlay} and ${beta.underlay}`);
  await stage.buildUnderlay(signal);
  for (const host of stage.hosts) {
    await say(`weft up on ${host.name}`);
    await stage.startDaemon(host, signal);
  }

  const containers: Container[] = [];
  for (const host of stage.hosts) {
    await say(
      `network ${stage.network.name} (${stage.network.subnets.join(', ')}, VNI ${stage.network.vni}) on ${host.name}`,
    );
    await createNetwork(host, signal);
    for (const name of host.containers) containers.push(await attach(host, name, signal));
  }

  await say(`${containers.length * (containers.length - 1)} pairs ping each other over IPv4 and IPv6`);
  const pairs = await pingAll(containers, signal);
  const unreachable = pairs.filter(({ trip4, trip6 }) => trip4 === undefined || trip6 === undefined).length;

  const [web, db, api] = containers as [Container, Container, Container];
  const streams: Stream[] = [];
  if (unreachable === 0) {
    streams.push(await measure(web, db, 'on one host', signal));
    streams.push(await measure(web, api, 'across hosts', signal));
    await explain(web, api, signal);
  }
  await write(`\n${await resultText(pairs, streams)}\n`);
  if (unreachable > 0)
    throw new WeftError('system', `${unreachable} of ${pairs.length} pairs could not reach each other`);
  return containers;
}

async function createNetwork(host: stage.Host, signal: AbortSignal): Promise<void> {
  const { name, subnets, vni } = stage.network;
  await weft(
    host,
    [
      ...['network', 'create', name, '--vni', String(vni)],
      ...subnets.flatMap((subnet) => ['--subnet', subnet]),
      ...host.ranges.flatMap((range) => ['--range', range]),
    ],
    signal,
  );
}

async function attach(host: stage.Host, name: string, signal: AbortSignal): Promise<Container> {
  await stage.addNamespace(name, signal);
  const words = ['attach', name, '--network', stage.network.name, '--netns', stage.namespaceOf(name), '-o', 'json'];
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

async function show(host: stage.Host, words: readonly string[], title: string, signal: AbortSignal): Promise<void> {
  const paint = await colours();
  await write(`\n${paint('bold', `$ ${title}`)}\n${indent(await weft(host, words, signal))}\n`);
}

/** Runs this executable against the daemon of a host. */
function weft(host: stage.Host, words: readonly string[], signal: AbortSignal): Promise<string> {
  return run([...stage.weft, '--socket', stage.socketOf(host), ...words], signal);
}

async function resultText(pairs: readonly Pair[], streams: readonly Stream[]): Promise<string> {
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
  for (const host of stage.hosts) {
    const { datapath } = await new Client(stage.socketOf(host)).status();
    text.push(
      `${host.name}: ${datapath.rx.toLocaleString('en')} frames received, ` +
        `${datapath.upcalls.toLocaleString('en')} of them decided in TypeScript, the rest by ${datapath.flows} cached flows\n`,
    );
  }
  return text.join('');
}

function keptText(containers: readonly Container[]): string {
  const [alpha, beta] = stage.hosts;
  const [web, , api] = containers as [Container, Container, Container];
  const names = stage.hosts.flatMap(({ name, containers }) => [name, ...containers]).join(' ');
  const on = (host: stage.Host, words: string): string => `  $weft --socket ${stage.socketOf(host)} ${words}\n`;
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
    on(alpha, 'down'),
    on(beta, 'down'),
    `  for n in ${names}; do ip netns del ${stage.namespaceOf('$n')}; done; rm -r ${stage.directory}\n`,
  ].join('');
}

/** A line of progress: seconds since the start, and what happens now. */
async function say(text: string): Promise<void> {
  const paint = await colours();
  const seconds = process.uptime().toFixed(1).padStart(5);
  await write(`${paint('dim', `${seconds} s`)}  ${text}\n`);
}

function indent(text: string): string {
  return text.trimEnd().replaceAll(/^(?=.)/gm, '  ');
}
