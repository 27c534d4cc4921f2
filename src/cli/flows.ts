/** `weft flows`: the cached flows; with --follow, each flow that is decided from now on. */
import type { Command } from 'commander';
import { follow } from './follow.ts';
import { ageText, durationText, numberText, print, table } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function flows(program: Command): void {
  verb(program, 'flows', {
    summary: 'list the cached flows',
    examples: ['weft flows', 'weft flows --follow', 'weft flows --follow -o json | jq .megaflow'],
  })
    .option('--follow', 'print each flow that is decided from now on')
    .action(async (options: { follow?: boolean }, command: Command) => {
      const client = clientOf(command);
      const { output } = globals(command);
      if (options.follow) {
        await follow(
          output,
          (signal) => client.followFlows(signal),
          ({ id, decidedAt, megaflow, actions }) =>
            `${decidedAt}  ${String(id).padEnd(6)}  ${megaflow}  ->  ${actions}`,
        );
        return;
      }
      const report = await client.flows();
      await print(output, report, () =>
        table(
          ['ID', 'PACKETS', 'BYTES', 'AGE', 'IDLE', 'MEGAFLOW', 'ACTIONS'],
          report.map(({ id, packets, bytes, decidedAt, idleMs, megaflow, actions }) => [
            id,
            numberText(packets),
            numberText(bytes),
            ageText(decidedAt),
            durationText(idleMs),
            megaflow,
            actions,
          ]),
          'No flows.',
        ),
      );
    });
}
