/** `weft drops`: what was dropped, by port and reason; with --follow, each decision to drop from now on. */
import type { Command } from 'commander';
import { follow } from './follow.ts';
import { ageText, numberText, print, table } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function drops(program: Command): void {
  verb(program, 'drops', {
    summary: 'list what was dropped and why',
    examples: ['weft drops', 'weft drops --follow', 'weft drops -o json'],
  })
    .option('--follow', 'print each decision to drop from now on')
    .action(async (options: { follow?: boolean }, command: Command) => {
      const client = clientOf(command);
      const { output } = globals(command);
      if (options.follow) {
        await follow(
          output,
          (signal) => client.followDrops(signal),
          ({ id = '-', port, reason, lastAt = '-', flow = '' }) =>
            `${lastAt}  ${id.padEnd(6)}  ${port.padEnd(15)}  ${reason.padEnd(24)}  ${flow}`.trimEnd(),
        );
        return;
      }
      const report = await client.drops();
      await print(output, report, () =>
        table(
          ['ID', 'PORT', 'REASON', 'COUNT', 'LAST', 'MEANING', 'FLOW'],
          report.map(({ id = '', port, reason, count, lastAt, text, flow = '' }) => [
            id,
            port,
            reason,
            numberText(count),
            lastAt === undefined ? '' : ageText(lastAt),
            text,
            flow,
          ]),
          'No drops.',
        ),
      );
    });
}
