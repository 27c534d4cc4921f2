/** `weft diff`: what manifests would change, and which connections they would end. */
import type { Command } from 'commander';
import { idOf } from '../model/name.ts';
import type { DiffReport } from '../model/policy-report.ts';
import { endText, failureLines } from './policy.ts';
import { print, table, type Cell } from './print.ts';
import { clientOf, collect, globals, verb } from './verb.ts';

export function diff(program: Command): void {
  verb(program, 'diff', {
    summary: 'show what manifests would change, and which connections of this host they would end',
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
      const { readManifests } = await import('./manifests.ts');
      const report = await clientOf(command).diff(await readManifests(filename));
      await print(globals(command).output, report, () => diffText(report));
    });
}

/** The resources with their fields, tests that would fail, connections. */
export async function diffText({ resources, policyTests, connections }: DiffReport): Promise<string> {
  const lines = resources.flatMap(({ kind, action, fields, more, ...name }) => [
    `${kind.toLowerCase()}/${idOf(name)} ${action}\n`,
    ...fields.map(({ path, before, after }) => `  ${path}: ${valueText(before)} → ${valueText(after)}\n`),
    ...(more > 0 ? [`  and ${more} more\n`] : []),
  ]);
  const changed = lines.length === 0 ? 'Nothing would change.\n' : lines.join('');
  const failures = policyTests.flatMap(failureLines);
  const failed = failures.length === 0 ? '' : `\nPolicy tests that would fail:\n${failures.join('')}`;
  return `${changed}${failed}\n${await connectionsText(connections)}`;
}

async function connectionsText({ live, ended, more }: DiffReport['connections']): Promise<string> {
  const count = ended.reduce((sum, { connections }) => sum + connections, more);
  const of = `${live} live ${live === 1 ? 'connection' : 'connections'} of this host`;
  if (count === 0) return `None of ${of} would end.\n`;
  const rows = ended.map(({ from, to, protocol, port, connections, because }): Cell[] => [
    endText(from),
    endText(to),
    port === 0 ? protocol : `${protocol}/${port}`,
    connections,
    because,
  ]);
  const heads = ['FROM', 'TO', 'PORT', 'CONNECTIONS', 'BECAUSE'];
  const hidden = more === 0 ? '' : `and ${more} more\n`;
  return `${count} of ${of} would end:\n${await table(heads, rows, '')}${hidden}`;
}

/** Undefined: it is not there. */
function valueText(value: unknown): string {
  return value === undefined ? '-' : JSON.stringify(value);
}
