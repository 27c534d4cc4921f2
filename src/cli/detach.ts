/** `weft detach`: removes an endpoint, its interface and its addresses. */
import type { Command } from 'commander';
import { idOf } from '../model/name.ts';
import type { ApplyReport } from '../model/report.ts';
import { withNamespace, type NamespaceOptions } from './kind.ts';
import { print } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function detach(program: Command): void {
  const command = verb(program, 'detach <name>', {
    summary: 'remove an endpoint, its interface and its addresses',
    examples: ['weft detach web', 'weft detach web -n shop'],
  });
  withNamespace(command).action(async (name: string, options: NamespaceOptions, command: Command) => {
    await clientOf(command).detach(name, options);
    const report: ApplyReport = { kind: 'Endpoint', name, ...options, action: 'deleted', dryRun: false };
    await print(globals(command).output, report, () => `endpoint/${idOf({ name, ...options })} detached\n`);
  });
}
