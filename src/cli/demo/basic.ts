/** Throughput on one host and across, how a frame would be decided, how a live flow was, and what was measured. */
import { Client } from '../../api/client.ts';
import { WeftError } from '../../error.ts';
import { write } from '../print.ts';
import { throughputMbps } from './measure.ts';
import { show } from './on-host.ts';
import { buildOverlay, explorations, pairsTable, type MeasuredPair } from './overlay.ts';
import type { Container, Plan } from './plan.ts';
import { say } from './say.ts';
import * as stage from './stage.ts';

const STREAM_SECONDS = 2;
const IPERF_PORT = 5201;

/** @returns what people can look at while it goes on */
export async function basic(plan: Plan, signal: AbortSignal): Promise<string[]> {
  const { containers, pairs } = await buildOverlay(plan, signal);
  const [web, db, api] = containers as [Container, Container, Container];
  const streams = [await measure(web, db, 'on one host', signal), await measure(web, api, 'across hosts', signal)];
  await explain(web, api, signal);
  await write(`\n${await pairsTable(pairs, streams)}${await countersText(plan)}\n`);
  return explorations(plan, containers);
}

async function measure(from: Container, to: Container, where: string, signal: AbortSignal): Promise<MeasuredPair> {
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

async function countersText({ hosts }: Plan): Promise<string> {
  const text: string[] = [];
  for (const host of hosts) {
    const { datapath } = await new Client(stage.socketOf(host)).status();
    text.push(
      `${host.name}: ${datapath.rx.toLocaleString('en')} frames received, ` +
        `${datapath.upcalls.toLocaleString('en')} of them decided in TypeScript, the rest by ${datapath.flows} cached flows\n`,
    );
  }
  return text.join('');
}
