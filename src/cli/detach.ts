/** `weft detach`: removes an endpoint, its interface and its addresses. */
import type { Command } from 'commander';
import { idOf } from '../model/name.ts';
import type { ApplyReport } from '../model/report.ts';
import { parseName, withNamespace, type NamespaceOptions } from './kind.ts';
import { print } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';
import { addWait, waitIfAsked, type WaitOptions } from './wait.ts';

export function detach(program: Command): void {
  const command = verb(program, 'detach <name>', {
    summary: 'remove an endpoint, its interface and its addresses',
    examples: ['weft detach web', 'weft detach web -n shop', 'weft detach shop/web', 'weft detach web --wait'],
  });
  addWait(withNamespace(command)).action(
    async (given: string, options: NamespaceOptions & WaitOptions, command: Command) => {
      const { name, namespace } = parseName(given, options, command);
      const told = await clientOf(command).detach(name, { namespace });
      // A daemon of an older version answers with nothing.
      const report: ApplyReport = {
        ...told,
        kind: 'Endpoint',
        name,
        ...(namespace !== undefined && { namespace }),
        action: 'deleted',
        dryRun: false,
      };
      const pending = report.pending === undefined ? '' : `, pending: ${report.pending}`;
      await print(globals(command).output, report, () => `endpoint/${idOf({ name, namespace })} detached${pending}\n`);
      await waitIfAsked(options, command, [report]);
    },
  );
}
