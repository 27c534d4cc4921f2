/** `weft endpoints` */
import type { Command } from 'commander';
import { endpointTable } from './endpoint-table.ts';
import type { NamespaceOptions } from './kind.ts';
import { print } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function endpoints(program: Command): void {
  verb(program, 'endpoints', {
    summary: 'list the endpoints',
    examples: ['weft endpoints', 'weft endpoints -n shop', 'weft endpoints -o json'],
  })
    .option('-n, --namespace <name>', 'of this namespace alone')
    .option('-A, --all-namespaces', 'of all namespaces (the default)')
    .action(async (options: NamespaceOptions, command: Command) => {
      const { namespace } = options;
      const all = await clientOf(command).endpoints();
      const report = all.filter((endpoint) => namespace === undefined || endpoint.namespace === namespace);
      await print(globals(command).output, report, () => endpointTable(report, options));
    });
}
