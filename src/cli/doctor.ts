/** `weft doctor`: checks what the switch needs from this host. Exits with 1 if a check failed. */
import type { Command } from 'commander';
import { WeftError } from '../error.ts';
import { colours, print, table, type Colour } from './print.ts';
import type { AcceptReport } from '../model/report.ts';
import { clientOf, globals, verb } from './verb.ts';

const colourOf = { ok: 'green', warning: 'yellow', failed: 'red' } as const satisfies Record<string, Colour>;

export function doctor(program: Command): void {
  verb(program, 'doctor', {
    summary: 'check kernel features, permissions, underlay and peers',
    examples: ['weft doctor', 'weft doctor -o json', 'weft doctor --accept-store'],
  })
    .option(
      '--accept-store',
      'put into force what the shared store says, although it was restored, emptied or exchanged',
    )
    .action(async (options: { readonly acceptStore?: true }, command: Command) => {
      if (options.acceptStore) return acceptStore(command);
      const report = await clientOf(command).doctor();
      await print(globals(command).output, report, async () => {
        const paint = await colours();
        return table(
          ['CHECK', 'RESULT', 'DETAIL'],
          report.checks.map(({ check, result, detail, hint }) => [
            check,
            paint(colourOf[result], result),
            hint === undefined ? detail : `${detail}: ${hint}`,
          ]),
          'No checks.',
        );
      });
      const failed = report.checks.filter(({ result }) => result === 'failed');
      if (failed.length > 0) {
        throw new WeftError(
          'system',
          `failed: ${failed.map(({ check, hint }) => (hint ? `${check} (${hint})` : check)).join(', ')}`,
        );
      }
    });
}

async function acceptStore(command: Command): Promise<void> {
  const report = await clientOf(command).acceptStore();
  await print(globals(command).output, report, () => acceptedText(report));
}

function acceptedText({ accepted, lost = [], cluster, follows }: AcceptReport): string {
  const changes = accepted.map(({ name, change, why }) => `${name} ${change}${why === undefined ? '' : `: ${why}`}\n`);
  if (cluster !== undefined) changes.push(`this host belongs to cluster ${cluster} now\n`);
  if (follows !== undefined)
    changes.push(
      `the cluster goes on with ${follows}: what it does not have there is held, \`weft doctor\` lists it\n`,
    );
  if (changes.length === 0) changes.push('Nothing is held: the store is in force.\n');
  return [...lost.map((why) => `given up: ${why}\n`), ...changes].join('');
}
