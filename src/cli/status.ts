/** `weft status`: exits 0 only when the daemon forwards. */
import type { Command } from 'commander';
import { WeftError } from '../error.ts';
import type { StatusReport } from '../model/report.ts';
import { ageText, colours, fields, numberText, pairsText, print, table } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function status(program: Command): void {
  verb(program, 'status', {
    summary: 'show the daemon, its counters and its ports',
    examples: ['weft status', 'weft status -o json', 'weft --socket /run/weft/a.sock status'],
  }).action(async (_, command: Command) => {
    const report = await clientOf(command).status();
    await print(globals(command).output, report, () => statusText(report));
    if (!report.forwarding)
      throw new WeftError('system', 'not forwarding: `weft doctor` and the log of `weft up` say why');
  });
}

async function statusText(report: StatusReport): Promise<string> {
  const paint = await colours();
  const { datapath, fdb } = report;
  const ports = await table(
    ['PORT', 'NAME', 'KIND', 'NETWORK', 'RX-FRAMES', 'RX-BYTES', 'TX-FRAMES', 'TX-BYTES', 'DROPS'],
    report.ports.map((port) => [
      port.port,
      port.name,
      port.kind,
      port.network ?? '',
      numberText(port.rxFrames),
      numberText(port.rxBytes),
      numberText(port.txFrames),
      numberText(port.txBytes),
      pairsText(port.drops),
    ]),
    'No ports.',
  );
  return `${fields([
    ['Host', report.host],
    ['Version', report.version],
    ['Daemon', `pid ${report.pid}, up ${ageText(report.startedAt)}`],
    ['Forwarding', report.forwarding ? paint('green', 'yes') : paint('red', 'no')],
    ['Underlay', underlayText(report)],
    ['Peers', report.peers.map((peer) => withPath(report, peer)).join(', ')],
    ['Outside', outsideText(report)],
    ...report.clashes.map(({ detail }) => ['Clash', paint('yellow', detail)] as const),
    ['Store', report.store],
    ['Networks', report.networks],
    ['Endpoints', endpointsText(report)],
    ['Connections', `${report.connections.active} of ${report.connections.limit}`],
    ['FDB', `${fdb.entries} entries, ${fdb.moves} moves, ${fdb.evicted} evicted`],
    ['Memory', `${mebibytes(report.memory.rssBytes)} MiB resident, ${mebibytes(report.memory.heapUsedBytes)} MiB heap`],
    [
      'Datapath',
      `${datapath.kind}, ${datapath.flows} of ${datapath.flowLimit} flows, ${datapath.masks} of ${datapath.maskLimit} masks, ${datapath.upcalls} upcalls`,
    ],
    ['Flow cache', flowCacheText(report)],
    ['Decisions', `${report.decisions.redecided} made again, ${report.decisions.withdrawn} flows withdrawn`],
    [
      'In',
      `${datapath.rx} rx + ${datapath.originated} originated + ${datapath.copies} copies + ${datapath.segments} segments`,
    ],
    [
      'Out',
      `${datapath.tx} tx + ${datapath.consumed} consumed + ${datapath.coalesced} coalesced + ${dropped(report)} drops + ${datapath.held} held`,
    ],
    ['Drops', pairsText(datapath.drops)],
  ])}\n${ports}`;
}

function underlayText({ underlay, tunnel }: StatusReport): string {
  const waiting = tunnel && !tunnel.open && `waiting: ${tunnel.why}`;
  return [underlay, waiting].filter(Boolean).join(', ') || 'none';
}

function outsideText({ outside }: StatusReport): string {
  if (!outside) return 'none';
  const { open, why } = outside;
  return `${open ? 'open' : 'not open'}${why === undefined ? '' : `: ${why}`}`;
}

/** How many there are, and what is wrong with any of them. */
function endpointsText({ endpoints, endpointProblems }: StatusReport): string {
  const problems = Object.entries(endpointProblems).flatMap(([name, all]) => all.map((one) => `${name}: ${one}`));
  return problems.length === 0 ? String(endpoints) : `${endpoints}; ${problems.join('; ')}`;
}

function dropped({ datapath }: StatusReport): number {
  return Object.values(datapath.drops).reduce((sum, frames) => sum + frames, 0);
}

function flowCacheText({ datapath: { refused, evicted } }: StatusReport): string {
  const refusals = `${refused.flows} flows for lack of room, ${refused.masks} for lack of a mask, ${refused.dropMasks} drops for lack of a mask`;
  return `${evicted.flows} flows and ${evicted.masks} masks evicted; not cached: ${refusals}`;
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}

function withPath({ pathMtus, pathSources }: StatusReport, peer: string): string {
  const mtu = pathMtus[peer];
  const source = pathSources[peer] === 'probed' ? ', probed' : '';
  return mtu === undefined ? `${peer} (no route)` : `${peer} (path MTU ${mtu}${source})`;
}
