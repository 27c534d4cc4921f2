/** `weft get KIND [NAME]`: resources as declared. The YAML and JSON output can be applied again. */
import type { Command } from 'commander';
import { WeftError } from '../error.ts';
import { parseTarget, withKinds, withNamespace, type NamespaceOptions } from './kind.ts';
import { print, write } from './print.ts';
import { clientOf, globals, verb, type OutputFormat } from './verb.ts';

interface Options extends NamespaceOptions {
  readonly allNamespaces?: boolean;
  readonly selector?: string;
  readonly sortBy?: string;
  readonly watch?: boolean;
  readonly outputWatchEvents?: boolean;
}

export function get(program: Command): void {
  const command = verb(program, 'get <kind> [name]', {
    summary: 'show resources of a kind, or one of them',
    examples: [
      'weft get network',
      'weft get endpoint web -o yaml',
      'weft get ep -o wide',
      'weft get ep -A',
      'weft get ep/web -n shop',
      'weft get ep -l app=web,tier!=cache --sort-by .spec.network',
      'weft get ep --watch',
    ],
  });
  withNamespace(withKinds(command))
    .option('-A, --all-namespaces', 'of all namespaces')
    .option('-l, --selector <selector>', 'only those with these labels, like app=web,tier!=cache or "zone in (a,b)"')
    .option('--sort-by <path>', 'sort by a field, like .metadata.name')
    .option('-w, --watch', 'go on with every change')
    .option('--output-watch-events', 'with --watch and -o: say of each what happened')
    .action(async (kindText: string, nameText: string | undefined, options: Options, command: Command) => {
      const { kind, name } = await parseTarget(kindText, nameText, command);
      const { namespace = 'default', allNamespaces = false, selector: labelSelector, sortBy: path } = options;
      if (allNamespaces && name !== undefined)
        command.error('error: give either NAME or -A: a name is unique only within its namespace (-n)');
      if (name !== undefined && labelSelector !== undefined)
        command.error('error: give either NAME or -l: a selector is for those that have no names here');
      if (path !== undefined && options.watch)
        command.error('error: give either --sort-by or --watch: changes come in their own order');
      if (options.outputWatchEvents && !options.watch)
        command.error('error: --output-watch-events is about --watch: give both');
      if (labelSelector !== undefined) await requireSelector(labelSelector);
      const which = {
        ...(kind.isNamespaced && !allNamespaces && { namespace }),
        ...(labelSelector !== undefined && { labelSelector }),
      };
      const client = clientOf(command);
      const output = globals(command).output as OutputFormat | 'name' | 'wide';
      if (options.watch) {
        const { watchResources } = await import('./watch-resources.ts');
        await watchResources({
          kind,
          output,
          withEvents: options.outputWatchEvents ?? false,
          follow: (signal) => client.followResources({ kind: kind.kind, name, ...which }, signal),
        });
        return;
      }
      const found = await client.get(kind.kind, name, which);
      const { resourceTable, nameText: fullName } = await import('./resource-table.ts');
      const resources = path === undefined ? found : (await import('./sort-by.ts')).sortBy(found, path);
      if (output === 'yaml') {
        const { stringify } = await import('./yaml.ts');
        await write(resources.map((resource) => stringify(resource)).join('---\n'));
      } else if (output === 'name') {
        await write(resources.map((resource) => `${fullName(resource)}\n`).join(''));
      } else if (output === 'wide') {
        await write(await resourceTable(kind, resources, { ...options, isWide: true }));
      } else {
        await print(output, name === undefined ? resources : resources[0], () =>
          resourceTable(kind, resources, options),
        );
      }
    });
}

async function requireSelector(text: string): Promise<void> {
  const { parseSelector } = await import('../model/selector.ts');
  try {
    parseSelector(text);
  } catch (error) {
    throw new WeftError('usage', `--selector: ${(error as Error).message}`, { cause: error });
  }
}
