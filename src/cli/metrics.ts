/** `weft metrics`: all metrics, as Prometheus reads them. */
import type { Command } from 'commander';
import { print, write } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function metrics(program: Command): void {
  verb(program, 'metrics', {
    summary: 'print all metrics in the format of Prometheus',
    examples: ['weft metrics', 'weft metrics --openmetrics', 'weft metrics -o json'],
  })
    .option('--openmetrics', 'in the format of OpenMetrics')
    .action(async ({ openmetrics = false }: { openmetrics?: boolean }, command: Command) => {
      const client = clientOf(command);
      const { output } = globals(command);
      if (output === 'table') {
        await write(await client.metricsText({ openmetrics }));
        return;
      }
      if (openmetrics) command.error('error: give either --openmetrics or -o: they are different formats');
      await print(output, await client.metrics(), () => '');
    });
}
