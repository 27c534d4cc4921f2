/** `weft get KIND [NAME…]`: resources as declared. The YAML and JSON output can be applied again. */
import type { Command } from 'commander';
import type { Selection } from '../api/client.ts';
import { WeftError } from '../error.ts';
import { throwAll, tryEach } from './failures.ts';
import { parseAllNamed, parseTarget, withKinds, withNamespace, type NamespaceOptions, type Target } from './kind.ts';
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
  const command = verb(program, 'get <kind> [name...]', {
    summary: 'show resources of a kind, or some of them by their names',
    examples: [
      'weft get network',
      'weft get endpoint web -o yaml',
      'weft get ep -o wide',
      'weft get ep -A',
      'weft get ep web db -o wide',
      'weft get ep/web svc/web -n shop',
      'weft get ep shop/web',
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
    .action(async (kindText: string, names: string[], options: Options, command: Command) => {
      const isNamed = names.length > 0 || kindText.includes('/');
      const targets = isNamed
        ? await parseAllNamed(kindText, names, options, command)
        : [await parseTarget(kindText, undefined, options, command)];
      const [first] = targets as [Target];
      const { allNamespaces = false, selector: labelSelector, sortBy: path } = options;
      if (allNamespaces && isNamed)
        command.error('error: give either NAME or -A: a name is unique only within its namespace (-n)');
      if (isNamed && labelSelector !== undefined)
        command.error('error: give either NAME or -l: a selector is for those that have no names here');
      if (path !== undefined && options.watch)
        command.error('error: give either --sort-by or --watch: changes come in their own order');
      if (options.watch && targets.length > 1) command.error('error: --watch follows one resource, or all of a kind');
      if (options.outputWatchEvents && !options.watch)
        command.error('error: --output-watch-events is about --watch: give both');
      if (labelSelector !== undefined) await requireSelector(labelSelector);
      const whichOf = ({ kind: { isNamespaced }, namespace = 'default' }: Target): Selection => ({
        ...(isNamespaced && !allNamespaces && { namespace }),
        ...(labelSelector !== undefined && { labelSelector }),
      });
      const client = clientOf(command);
      const output = globals(command).output as OutputFormat | 'name' | 'wide';
      if (options.watch) {
        const { watchResources } = await import('./watch-resources.ts');
        await watchResources({
          kind: first.kind,
          output,
          withEvents: options.outputWatchEvents ?? false,
          follow: (signal) =>
            client.followResources({ kind: first.kind.kind, name: first.name, ...whichOf(first) }, signal),
        });
        return;
      }
      const { done, failures } = await tryEach(targets, (target) =>
        client.get(target.kind.kind, target.name, whichOf(target)),
      );
      // Those that exist are shown, also if others do not.
      if (targets.length === 1 || done.length === 0) throwAll(failures);
      const found = done.flat();
      const { resourceTables, nameText: fullName } = await import('./resource-table.ts');
      const resources = path === undefined ? found : (await import('./sort-by.ts')).sortBy(found, path);
      const tables = (): Promise<string> =>
        resourceTables(
          targets.map((target) => target.kind),
          resources,
          { ...options, isWide: output === 'wide' },
        );
      if (output === 'yaml') {
        const { stringify } = await import('./yaml.ts');
        await write(resources.map((resource) => stringify(resource)).join('---\n'));
      } else if (output === 'name') {
        await write(resources.map((resource) => `${fullName(resource)}\n`).join(''));
      } else if (output === 'wide') {
        await write(await tables());
      } else {
        await print(output, isNamed && targets.length === 1 ? resources[0] : resources, tables);
      }
      throwAll(failures);
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
