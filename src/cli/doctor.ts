/** `weft doctor`: checks what the switch needs from this host. Exits with 1 if a check failed. */
import type { Command } from 'commander';
import { WeftError } from '../error.ts';
import { colours, print, table, type Colour } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

const colourOf = { ok: 'green', warning: 'yellow', failed: 'red' } as const satisfies Record<string, Colour>;

export function doctor(program: Command): void {
  verb(program, 'doctor', {
    summary: 'check kernel features, permissions, underlay and peers',
    examples: ['weft doctor', 'weft doctor -o json'],
  }).action(async (_, command: Command) => {
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
