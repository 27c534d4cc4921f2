/** `weft get KIND [NAME]`: resources as declared. The YAML and JSON output can be applied again. */
import type { Command } from 'commander';
import type { KindDefinition } from '../model/kinds/kind.ts';
import type { Resource } from '../model/resource.ts';
import { parseTarget, withKinds, withNamespace, type NamespaceOptions } from './kind.ts';
import { pairsText, print, table, write } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

interface Options extends NamespaceOptions {
  readonly allNamespaces?: boolean;
}

export function get(program: Command): void {
  const command = verb(program, 'get <kind> [name]', {
    summary: 'show resources of a kind, or one of them',
    examples: ['weft get network', 'weft get endpoint web -o yaml', 'weft get ep -A', 'weft get ep/web -n shop'],
  });
  withNamespace(withKinds(command))
    .option('-A, --all-namespaces', 'of all namespaces')
    .action(async (kindText: string, nameText: string | undefined, options: Options, command: Command) => {
      const { kind, name } = await parseTarget(kindText, nameText, command);
      const { namespace = 'default', allNamespaces = false } = options;
      if (allNamespaces && name !== undefined)
        command.error('error: give either NAME or -A: a name is unique only within its namespace (-n)');
      const place = kind.isNamespaced && !allNamespaces ? { namespace } : {};
      const resources = await clientOf(command).get(kind.kind, name, place);
      const { output } = globals(command);
      if (output === 'yaml') {
        const { stringify } = await import('./yaml.ts');
        await write(resources.map((resource) => stringify(resource)).join('---\n'));
      } else {
        await print(output, name === undefined ? resources : resources[0], () =>
          resourceTable(kind, resources, options),
        );
      }
    });
}

/** The table that people see. */
export function resourceTable(
  kind: KindDefinition,
  resources: readonly Resource[],
  { namespace }: NamespaceOptions = {},
): Promise<string> {
  const { isNamespaced, columns } = kind;
  return table(
    ['NAME', ...(isNamespaced ? ['NAMESPACE'] : []), ...columns.heads, 'LABELS'],
    resources.map((resource) => {
      const { name, namespace = '', labels } = resource.metadata;
      return [name, ...(isNamespaced ? [namespace] : []), ...columns.cells(resource), pairsText(labels)];
    }),
    `No ${kind.plural}${kind.isNamespaced && namespace !== undefined ? ` in namespace "${namespace}"` : ''}.`,
  );
}
