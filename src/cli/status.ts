/** `weft status`: exits 0 only when the daemon forwards. */
import type { Command } from 'commander';
import { WeftError } from '../error.ts';
import { takenBackText } from '../model/confirmation-text.ts';
import { heldText } from '../model/held.ts';
import { unknownText } from '../model/in-force.ts';
import { someOf } from '../model/name.ts';
import type { HookReport, StatusReport } from '../model/report.ts';
import { moreRefusedText, REFUSED_HINT, refusedRecordText } from '../model/refused-record.ts';
import { ageText, colours, fields, numberText, pairsText, print, table, type Cell } from './print.ts';
import { clientOf, globals, note, otherBuildText, verb } from './verb.ts';

export function status(program: Command): void {
  verb(program, 'status', {
    summary: 'show the daemon, its counters and its ports',
    examples: ['weft status', 'weft status -o json', 'weft --socket /run/weft/a.sock status'],
  }).action(async (_, command: Command) => {
    const report = await clientOf(command).status();
    await print(globals(command).output, report, () => statusText(report));
    const other = otherBuildText();
    if (other !== undefined) note(other);
    if (!report.forwarding)
      throw new WeftError('system', 'not forwarding: `weft doctor` and the log of `weft up` say why');
  });
}

/** A daemon of another version may not tell everything: what is missing is left out. */
async function statusText(report: StatusReport): Promise<string> {
  const paint = await colours();
  const isOther = otherBuildText() !== undefined;
  const row = (name: string, read: () => Cell): (readonly [string, Cell])[] => {
    const value = isOther ? told(read) : read();
    return value === undefined ? [] : [[name, value]];
  };
  const rows = (read: () => (readonly [string, Cell])[]): (readonly [string, Cell])[] =>
    (isOther ? told(read) : read()) ?? [];
  const facts = fields([
    ...row('Host', () => report.host),
    ...row('Version', () => report.version),
    ...row('Daemon', () => `pid ${report.pid}, up ${ageText(report.startedAt)}`),
    ...row('Forwarding', () => (report.forwarding ? paint('green', 'yes') : paint('red', 'no'))),
    ...row('Underlay', () => underlayText(report)),
    ...row('Peers', () => report.peers.map((peer) => withPath(report, peer)).join(', ')),
    ...row('Outside', () => outsideText(report)),
    ...rows(() => (report.internal ? [['Own sockets', internalText(report.internal)]] : [])),
    ...rows(() => (report.metrics ? [['Metrics', metricsText(report.metrics)]] : [])),
    ...rows(() => report.clashes.map(({ detail }) => ['Clash', paint('yellow', detail)] as const)),
    ...row('Store', () => storeText(report)),
    ...rows(() => {
      const { held = [], losses = [], pending = [], lost = [], copyDamage, takesNothing } = report.sharedStore ?? {};
      const told: (readonly [string, Cell])[] = [];
      if (copyDamage !== undefined) told.push(['Copy', paint('yellow', copyDamage)]);
      if (losses.length > 0)
        told.push(['Would go', paint('yellow', `${heldText(losses)}, with \`weft doctor --accept-store\``)]);
      if (held.length > 0) told.push(['Held', paint('yellow', `${heldText(held)}: \`weft doctor\` says why`)]);
      if (pending.length > 0) {
        const why = takesNothing === undefined ? '' : ': the store takes nothing';
        told.push(['Pending', paint('yellow', `other hosts do not know of ${pending.join(', ')} yet${why}`)]);
      }
      return [...told, ...lost.map((why) => ['Given up', paint('yellow', why)] as const)];
    }),
    ...rows(() => {
      const { registration, inForce } = report;
      if (!registration) return [];
      const { state, why } = registration;
      const registered =
        state === 'registered' ? state : paint(state === 'refused' ? 'red' : 'yellow', `${state}: ${why}`);
      return [
        ['Registration', registered],
        ['In force', inForceText(inForce)],
      ];
    }),
    ...row('Networks', () => report.networks),
    ...row('Endpoints', () => endpointsText(report)),
    ...rows(() => refusedTexts(report).map((text) => ['Waiting', paint('yellow', text)] as const)),
    ...rows(() => report.hooks.map((hook) => ['Hook', hookText(hook, paint)] as const)),
    ...rows(() => confirmationRows(report.confirmation).map(([name, text]) => [name, paint('yellow', text)] as const)),
    ...row('Connections', () => connectionsText(report.connections)),
    ...row('FDB', () => `${report.fdb.entries} entries, ${report.fdb.moves} moves, ${report.fdb.evicted} evicted`),
    ...row('Memory', () => memoryText(report)),
    ...row('Datapath', () => datapathText(report)),
    ...row('Flow cache', () => flowCacheText(report)),
    ...row(
      'Decisions',
      () => `${report.decisions.redecided} made again, ${report.decisions.withdrawn} flows withdrawn`,
    ),
    ...row('Audit', () => auditText(report.audit, paint)),
    ...row('In', () => inText(report)),
    ...row('Out', () => outText(report)),
    ...row('Drops', () => pairsText(report.datapath.drops)),
    ...rows(() => {
      const { unanswered } = report.datapath;
      return unanswered > 0
        ? [['Unanswered', `${unanswered} refused frames, beyond the rate of answers to a port`]]
        : [];
    }),
  ]);
  const ports = isOther ? told(() => portRows(report)) : portRows(report);
  return ports ? `${facts}\n${await table(portHeads, ports, 'No ports.')}` : facts;
}

/** What `read` makes of the report; undefined if a part of it is missing. */
function told<T>(read: () => T): T | undefined {
  try {
    const value = read();
    return JSON.stringify(value)?.includes('undefined') ? undefined : value;
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

const portHeads = ['PORT', 'NAME', 'KIND', 'NETWORK', 'RX-FRAMES', 'RX-BYTES', 'TX-FRAMES', 'TX-BYTES', 'DROPS'];

function portRows({ ports }: StatusReport): Cell[][] {
  return ports.map((port) => [
    port.port,
    port.name,
    port.kind,
    port.network ?? '',
    numberText(port.rxFrames),
    numberText(port.rxBytes),
    numberText(port.txFrames),
    numberText(port.txBytes),
    pairsText(port.drops),
  ]);
}

/** The hosts that do not have everything in force are named. */
function inForceText(inForce: StatusReport['inForce']): string {
  const { revision = 0, hosts = [] } = inForce ?? {};
  if (revision === 0) return 'nothing of the store yet';
  const unknown = unknownText(hosts);
  const others = hosts.filter(({ state }) => state !== 'in force');
  const named = others
    .filter(({ state }) => state !== 'unknown')
    .map(({ host, state, behind }) =>
      state === 'lagging' && behind !== undefined ? `${host} is ${behind} revisions behind` : `${host} is ${state}`,
    );
  const all = `${hosts.length - others.length} of ${hosts.length} hosts`;
  return [`revision ${revision} on ${all}`, ...(unknown === undefined ? [] : [unknown]), ...named].join('; ');
}

function hookText(
  { name, state, why, asked, failures }: HookReport,
  paint: Awaited<ReturnType<typeof colours>>,
): string {
  const counted = `asked ${numberText(asked)} times${failures > 0 ? `, has failed ${numberText(failures)} times` : ''}`;
  if (why === undefined) return `${name}: in force, ${counted}`;
  if (state === 'in_force') return `${name}: ${paint('yellow', `an older version is in force: ${why}`)}`;
  return `${name}: ${paint('red', state === 'failed' ? `cannot be loaded: ${why}` : `in quarantine: ${why}`)}`;
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

function internalText({ open, listening, why }: NonNullable<StatusReport['internal']>): string {
  return `${open ? 'open' : 'not open'}${why === undefined ? '' : `: ${why}`} (${listening.join(', ')})`;
}

function metricsText({ address, open, why }: NonNullable<StatusReport['metrics']>): string {
  return open ? address : `${address}, not open: ${why}`;
}

/** How many there are, and what is wrong with any of them. */
function endpointsText({ endpoints, endpointProblems }: StatusReport): string {
  const problems = Object.entries(endpointProblems).flatMap(([name, all]) => all.map((one) => `${name}: ${one}`));
  return problems.length === 0 ? String(endpoints) : `${endpoints}; ${problems.join('; ')}`;
}

function refusedTexts({ refusedRecords, refusedRecordCount }: StatusReport): string[] {
  const named = refusedRecords.map((refused) => `${refusedRecordText(refused)}: ${refused.hint ?? REFUSED_HINT}`);
  return [...named, ...moreRefusedText(refusedRecordCount, named.length)];
}

function memoryText({ memory }: StatusReport): string {
  return `${mebibytes(memory.rssBytes)} MiB resident, ${mebibytes(memory.heapUsedBytes)} MiB heap`;
}

function datapathText({ datapath: { kind, flows, flowLimit, masks, maskLimit, upcalls } }: StatusReport): string {
  return `${kind}, ${flows} of ${flowLimit} flows, ${masks} of ${maskLimit} masks, ${upcalls} upcalls`;
}

function inText({ datapath: { rx, originated, copies, segments } }: StatusReport): string {
  return `${rx} rx + ${originated} originated + ${copies} copies + ${segments} segments`;
}

function outText({ datapath: { tx, consumed, coalesced, drops, held } }: StatusReport): string {
  const dropped = Object.values(drops).reduce((sum, frames) => sum + frames, 0);
  return `${tx} tx + ${consumed} consumed + ${coalesced} coalesced + ${dropped} drops + ${held} held`;
}

function flowCacheText({ datapath: { refused, evicted } }: StatusReport): string {
  const refusals = `${refused.flows} flows for lack of room, ${refused.masks} for lack of a mask, ${refused.dropMasks} drops for lack of a mask`;
  return `${evicted.flows} flows and ${evicted.masks} masks evicted; not cached: ${refusals}`;
}

function storeText({ store, sharedStore }: StatusReport): string {
  if (!sharedStore) return store;
  const { prefix, reachable, why, since, refused, takesNothing, notFollowed, revision, audit } = sharedStore;
  const place = `${store}, prefix ${prefix}`;
  if (refused !== undefined) return `${place}, not used: ${refused}`;
  if (!reachable) return `${place}, cannot be reached: ${why}${since === undefined ? '' : `, since ${since}`}`;
  if (takesNothing !== undefined)
    return `${place}, revision ${revision}, takes nothing that is written: ${takesNothing}`;
  if (notFollowed) return `${place}, revision ${revision}, not followed since ${notFollowed.since}: ${notFollowed.why}`;
  const mismatches = audit.mismatches > 0 ? `, ${audit.mismatches} changes were not reported` : '';
  return `${place}, revision ${revision}${mismatches}`;
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}

function withPath({ pathMtus, pathSources, peerStates }: StatusReport, peer: string): string {
  const mtu = pathMtus[peer];
  const source = pathSources[peer] === 'probed' ? ', probed' : '';
  const state = peerStates[peer] === undefined || peerStates[peer] === 'unprobed' ? '' : `${peerStates[peer]}, `;
  return mtu === undefined ? `${peer} (${state}no route)` : `${peer} (${state}path MTU ${mtu}${source})`;
}

function confirmationRows({ waiting, takenBack }: StatusReport['confirmation']): (readonly [string, string])[] {
  const told: (readonly [string, string])[] = [];
  if (waiting) {
    const what = `a change of ${someOf(waiting.resources)}, made on host ${waiting.host}`;
    const then = waiting.isTakenBack ? 'is being taken back' : `${takenBackText(waiting)}: \`weft confirm\` keeps it`;
    told.push(['Unconfirmed', `${what}, ${then}`]);
  }
  if (takenBack) {
    const { at, resources, left } = takenBack;
    const stays = left.map(({ resource, why }) => `${resource} stays: ${why}`);
    const others = left.length === 0 ? '' : `; ${someOf(stays, '; ')}`;
    told.push(['Taken back', `the change of ${someOf(resources)}, at ${at}${others}`]);
  }
  return told;
}

function auditText(
  { flows, connections, mismatches }: StatusReport['audit'],
  paint: Awaited<ReturnType<typeof colours>>,
): string {
  const seen = `${numberText(flows)} flows and ${numberText(connections)} connections decided again`;
  if (mismatches === 0) return `${seen}: as cached`;
  return paint('red', `${seen}: ${mismatches} not as cached: \`weft doctor\` says more`);
}

function connectionsText({ active, tracked, ended, limit }: StatusReport['connections']): string {
  const parts = [...(tracked === 0 ? [] : [`${tracked} only tracked`]), ...(ended === 0 ? [] : [`${ended} ended`])];
  return `${active} of ${limit}${parts.length === 0 ? '' : `, of them ${parts.join(' and ')}`}`;
}
