/** `weft hosts`: the other hosts, and the way to each. */
import type { Command } from 'commander';
import { WeftError } from '../error.ts';
import { someOf } from '../model/name.ts';
import { unknownText } from '../model/in-force.ts';
import type { HostReport } from '../model/report.ts';
import { ageText, colours, print, table, write, type Cell } from './print.ts';
import { clientOf, globals, note, verb, type OutputFormat } from './verb.ts';

export function hosts(program: Command): void {
  verb(program, 'hosts [name]', {
    summary: 'list the other hosts, or show one, whether each is alive, and the way to it',
    examples: ['weft hosts', 'weft hosts b', 'weft hosts -o wide', 'weft hosts -o json'],
  }).action(async (wanted: string | undefined, _, command: Command) => {
    const all = await clientOf(command).hosts();
    const report = wanted === undefined ? all : [oneOf(all, wanted)];
    const output = globals(command).output as OutputFormat | 'name' | 'wide';
    if (output === 'name') return write(report.map(({ name, underlay }) => `host/${name ?? underlay}\n`).join(''));
    if (output === 'wide') await write(await hostTable(report, true));
    else await print(output, report, () => hostTable(report, false));
    const unknown = unknownText(
      report.flatMap(({ name, inForce }) => (inForce ? [{ host: name ?? '', ...inForce }] : [])),
    );
    if (unknown !== undefined) note(`what hosts have in force: ${unknown}`);
  });
}

/** By its name, or by its underlay address if no name is known. */
function oneOf(report: readonly HostReport[], wanted: string): HostReport {
  const found = report.find(({ name, underlay }) => (name ?? underlay) === wanted);
  if (found) return found;
  const names = report.map(({ name, underlay }) => name ?? underlay);
  const are = names.length === 0 ? 'there are no other hosts' : `the other hosts are ${someOf(names)}`;
  throw new WeftError('not_found', `host ${JSON.stringify(wanted)} is not one of the other hosts: ${are}`);
}

/** Below the table, one line for each host that is not up, with the reason. */
async function hostTable(report: readonly HostReport[], isWide: boolean): Promise<string> {
  const paint = await colours();
  const stateText = ({ state }: HostReport): string =>
    state === 'up' ? paint('green', state) : state === 'unprobed' ? state : paint('red', state);
  const isShared = report.some(({ inForce }) => inForce !== undefined);
  const heads = ['NAME', 'UNDERLAY', 'STATE', 'RTT', 'LOSS-IN', 'LOSS-OUT', 'PATH-MTU', 'SINCE'];
  if (isShared) heads.push('IN-FORCE', 'BEHIND', 'VERSION');
  const rows = report.map((host): Cell[] => [
    host.name ?? '',
    host.underlay,
    stateText(host),
    host.roundTripMs === null ? '' : `${host.roundTripMs.toFixed(host.roundTripMs < 10 ? 2 : 0)}ms`,
    lossText(host.lossIn),
    lossText(host.lossOut),
    host.pathMtu ?? '',
    ageText(host.since),
    ...(isShared ? [host.inForce?.state ?? '', host.inForce?.behind ?? '', host.version ?? ''] : []),
    ...(isWide ? [host.why ?? '', host.vnis?.join(',') ?? '', host.id ?? ''] : []),
  ]);
  return table(
    isWide ? [...heads, 'WHY', 'VNIS', 'ID'] : heads,
    rows,
    'No other hosts: those with the same --store appear by themselves; `weft up --peer ADDRESS,KEY` names others.',
  );
}

function lossText({ lost, of }: HostReport['lossIn']): string {
  return of === 0 ? '' : `${Math.round((100 * lost) / of)}%`;
}
