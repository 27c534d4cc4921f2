/** `weft detach`: removes an endpoint, its interface and its addresses. */
import type { Command } from 'commander';
import type { ApplyReport } from '../model/report.ts';
import { print } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function detach(program: Command): void {
  verb(program, 'detach <name>', {
    summary: 'remove an endpoint, its interface and its addresses',
    examples: ['weft detach web'],
  }).action(async (name: string, _, command: Command) => {
    await clientOf(command).detach(name);
    const report: ApplyReport = { kind: 'Endpoint', name, action: 'deleted', dryRun: false };
    await print(globals(command).output, report, () => `endpoint/${name} detached\n`);
  });
}
