/** `weft detach`: removes an endpoint, its interface and its addresses. */
import type { Command } from 'commander';
import { idOf } from '../model/name.ts';
import type { ApplyReport } from '../model/report.ts';
import { parseName, withNamespace, type NamespaceOptions } from './kind.ts';
import { print } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function detach(program: Command): void {
  const command = verb(program, 'detach <name>', {
    summary: 'remove an endpoint, its interface and its addresses',
    examples: ['weft detach web', 'weft detach web -n shop', 'weft detach shop/web'],
  });
  withNamespace(command).action(async (given: string, options: NamespaceOptions, command: Command) => {
    const { name, namespace } = parseName(given, options, command);
    await clientOf(command).detach(name, { namespace });
    const report: ApplyReport = {
      kind: 'Endpoint',
      name,
      ...(namespace !== undefined && { namespace }),
      action: 'deleted',
      dryRun: false,
    };
    await print(globals(command).output, report, () => `endpoint/${idOf({ name, namespace })} detached\n`);
  });
}
