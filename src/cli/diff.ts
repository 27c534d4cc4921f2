/** `weft diff`: what manifests would change, which connections they would end, and what policies would say of others like those of late. */
import type { Command } from 'commander';
import { idOf } from '../model/name.ts';
import type { DiffReport } from '../model/policy-report.ts';
import { endText, failureLines } from './policy.ts';
import { ageText, print, table, type Cell } from './print.ts';
import { clientOf, collect, globals, verb } from './verb.ts';

export function diff(program: Command): void {
  verb(program, 'diff', {
    summary: 'show what manifests would change, which connections they would end, and which flows of the last days',
    examples: ['weft diff -f policies/', 'weft get netpol -o yaml | weft diff -f -', 'weft diff -f db.yaml -o json'],
  })
    .requiredOption(
      '-f, --filename <file|dir|->',
      'manifest, directory of *.yaml, *.yml and *.json, or - for stdin; may be given several times',
      collect,
    )
    .addHelpText(
      'after',
      '\nNothing is changed. PolicyTests that would fail are named: they keep it from being applied.',
    )
    .action(async ({ filename }: { readonly filename: readonly string[] }, command: Command) => {
      const { readManifests, sent } = await import('./manifests.ts');
      const report = await sent(await readManifests(filename), (all) => clientOf(command).diff(all));
      await print(globals(command).output, report, () => diffText(report));
    });
}

/** The resources with their fields, tests that would fail, connections, flow classes. */
export async function diffText(report: DiffReport): Promise<string> {
  const { resources, policyTests, hosts } = report;
  const lines = resources.flatMap(({ kind, action, fields, more, ...name }) => [
    `${kind.toLowerCase()}/${idOf(name)} ${action}\n`,
    ...fields.map(({ path, before, after }) => `  ${path}: ${valueText(before)} → ${valueText(after)}\n`),
    ...(more > 0 ? [`  and ${more} more\n`] : []),
  ]);
  const changed = lines.length === 0 ? 'Nothing would change.\n' : lines.join('');
  const failures = policyTests.flatMap(failureLines);
  const failed = failures.length === 0 ? '' : `\nPolicy tests that would fail:\n${failures.join('')}`;
  const missing = hosts.flatMap(({ name, answered, why }) =>
    answered ? [] : [`host "${name}" has not answered, and what it would do is not among this: ${why}\n`],
  );
  const told = missing.length === 0 ? '' : `\n${missing.join('')}`;
  return `${changed}${failed}\n${await connectionsText(report)}\n${await classesText(report)}${await servicesText(report)}${told}`;
}

/** What would become of conversations with services; nothing, if nothing would. */
async function servicesText({ services: { ended, changed, more }, hosts }: DiffReport): Promise<string> {
  const parts: string[] = [];
  if (ended.length > 0) {
    const count = ended.reduce((sum, { connections }) => sum + connections, 0);
    const rows = ended.map(({ host, from, to, protocol, port, service, connections, because }): Cell[] => [
      ...(hosts.length === 0 ? [] : [host ?? '']),
      ...[endText(from), service, endText(to), `${protocol}/${port}`, connections, because],
    ]);
    const heads = [...hostHead(hosts), 'FROM', 'SERVICE', 'BACKEND', 'PORT', 'CONNECTIONS', 'BECAUSE'];
    const what = count === 1 ? 'connection of a service would lose its' : 'connections of services would lose their';
    parts.push(`\n${count} live ${what} backend:\n${await table(heads, rows, '')}`);
  }
  if (changed.length > 0) {
    const rows = changed.map((one): Cell[] => [
      ...(hosts.length === 0 ? [] : [one.host ?? '']),
      ...[classEndText(one.from), one.service, classEndText(one.to), `${one.protocol}/${one.port}`],
      ...[coversText[one.covers], Math.max(1, one.opened), ageText(one.lastSeen), thenText(one), one.because],
    ]);
    const heads = [
      ...[...hostHead(hosts), 'FROM', 'SERVICE', 'BACKEND', 'PORT'],
      ...['AND', 'SEEN', 'LAST', 'THEN', 'BECAUSE'],
    ];
    const what = changed.length === 1 ? 'flow class' : 'flow classes';
    parts.push(`\n${changed.length} ${what} of the last 7 days would go elsewhere:\n${await table(heads, rows, '')}`);
  }
  return `${parts.join('')}${more === 0 ? '' : `and ${more} more\n`}`;
}

/** Who may be chosen. */
function thenText({ then, thenMore }: DiffReport['services']['changed'][number]): string {
  if (then.length === 0) return 'nobody';
  const names = then.map(({ port, ...end }) => `${end.endpoint ?? end.address}:${port}`);
  return `${names.join(', ')}${thenMore === 0 ? '' : ` and ${thenMore} more`}`;
}

async function connectionsText({ connections: { live, ended, more }, hosts }: DiffReport): Promise<string> {
  const count = ended.reduce((sum, { connections }) => sum + connections, more);
  const of = `${live} live ${live === 1 ? 'connection' : 'connections'} of ${ofText(hosts)}`;
  if (count === 0) return `None of ${of} would end.\n`;
  const rows = ended.map(({ host, from, to, protocol, port, connections, because }): Cell[] => [
    ...(hosts.length === 0 ? [] : [host ?? '']),
    endText(from),
    endText(to),
    port === 0 ? protocol : `${protocol}/${port}`,
    connections,
    because,
  ]);
  const heads = [...hostHead(hosts), 'FROM', 'TO', 'PORT', 'CONNECTIONS', 'BECAUSE'];
  const hidden = more === 0 ? '' : `and ${more} more\n`;
  return `${count} of ${of} would end:\n${await table(heads, rows, '')}${hidden}`;
}

/** What else a class stands for. */
const coversText = {
  exact: '',
  ports: 'further ports',
  block: 'further peers',
  any: 'all the rest',
} as const satisfies Record<Change['covers'], string>;

type Change = DiffReport['flowClasses']['changed'][number];

async function classesText({ flowClasses, hosts }: DiffReport): Promise<string> {
  const { count: known, givenUp, passedOver, changed, more } = flowClasses;
  const count = changed.length + more;
  const of = `${known} flow ${known === 1 ? 'class' : 'classes'} of the last 7 days`;
  const left = [
    ...(givenUp > 0 ? [`${givenUp} classes were given up, since there were too many.\n`] : []),
    ...(passedOver > 0 ? [`${passedOver} conversations are in no class, since too many began at once.\n`] : []),
  ].join('');
  if (count === 0) return `None of ${of} would have another verdict.\n${left}`;
  const rows = changed.map((one): Cell[] => [
    ...(hosts.length === 0 ? [] : [one.host ?? '']),
    classEndText(one.from),
    classEndText(one.to),
    one.port === 0 ? one.protocol : `${one.protocol}/${one.port}`,
    coversText[one.covers],
    `${one.before} → ${one.verdict}`,
    seenText(one),
    ageText(one.lastSeen),
    one.because,
  ]);
  const heads = [...hostHead(hosts), 'FROM', 'TO', 'PORT', 'AND', 'VERDICT', 'SEEN', 'LAST', 'BECAUSE'];
  const hidden = more === 0 ? '' : `and ${more} more\n`;
  return `${count} of ${of} would have another verdict:\n${await table(heads, rows, '')}${hidden}${left}`;
}

function hostHead(hosts: DiffReport['hosts']): readonly string[] {
  return hosts.length === 0 ? [] : ['HOST'];
}

function ofText(hosts: DiffReport['hosts']): string {
  const count = hosts.filter(({ answered }) => answered).length;
  return hosts.length === 0 ? 'this host' : count === 1 ? '1 host' : `${count} hosts`;
}

/** How many were opened, and how often one was denied. */
function seenText({ opened, denied }: Pick<Change, 'opened' | 'denied'>): Cell {
  if (denied === 0) return Math.max(1, opened);
  return opened === 0 ? `${denied} denied` : `${opened}, ${denied} denied`;
}

function classEndText({ gone, ...end }: Change['from']): string {
  return gone ? `${endText(end)}, gone` : endText(end);
}

/** Undefined: it is not there. */
function valueText(value: unknown): string {
  return value === undefined ? '-' : JSON.stringify(value);
}
