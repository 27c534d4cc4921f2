/** `weft endpoints` */
import type { Command } from 'commander';
import { endpointTable } from './endpoint-table.ts';
import { print } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function endpoints(program: Command): void {
  verb(program, 'endpoints', {
    summary: 'list the endpoints',
    examples: ['weft endpoints', 'weft endpoints -o json'],
  }).action(async (_, command: Command) => {
    const report = await clientOf(command).endpoints();
    await print(globals(command).output, report, () => endpointTable(report));
  });
}
