/** `weft services [NAME]` */
import type { Command } from 'commander';
import { compareNames } from '../model/name-order.ts';
import { idOf } from '../model/name.ts';
import { parseName, type NamespaceOptions } from './kind.ts';
import { print, write } from './print.ts';
import { clientOf, globals, verb, type OutputFormat } from './verb.ts';

export function services(program: Command): void {
  verb(program, 'services [name]', {
    summary: 'list the services, or show one and its backends',
    examples: [
      'weft services',
      'weft services web -n shop     # its backends, their states and connections',
      'weft services shop/web -o json',
      'weft services -o wide',
      'weft services --watch         # goes on with every change; with NAME, of its backends',
    ],
  })
    .option('-n, --namespace <name>', 'of this namespace alone; with NAME, default if it is not given')
    .option('-A, --all-namespaces', 'of all namespaces (the default)')
    .option('-w, --watch', 'go on with every change, at most one a second of each')
    .option('--output-watch-events', 'with --watch and -o: say of each what happened')
    .action(async (given: string | undefined, options: Options, command: Command) => {
      if (given !== undefined && options.allNamespaces)
        command.error('error: give either NAME or -A: a name is unique only within its namespace (-n)');
      const { name, namespace } =
        given === undefined ? { name: given, ...options } : parseName(given, options, command);
      if (options.outputWatchEvents && !options.watch)
        command.error('error: --output-watch-events is about --watch: give both');
      const client = clientOf(command);
      const output = globals(command).output as OutputFormat | 'name' | 'wide';
      if (options.watch) {
        const { watchServices } = await import('./watch-services.ts');
        return watchServices({
          isOne: name !== undefined,
          output,
          withEvents: options.outputWatchEvents ?? false,
          follow: (signal) => client.followServices(name, { namespace }, signal),
        });
      }
      const found = await client.services(name, { namespace });
      const report = found.sort((a, b) => compareNames(idOf(a), idOf(b)));
      const isWide = output === 'wide';
      if (output === 'name') return write(report.map((service) => `service/${idOf(service)}\n`).join(''));
      const { serviceTable, serviceText } = await import('./service-table.ts');
      const text = (): Promise<string> =>
        name === undefined ? serviceTable(report, options, isWide) : serviceText(report[0]!, isWide);
      if (isWide) return write(await text());
      await print(output, name === undefined ? report : report[0], text);
    });
}

interface Options extends NamespaceOptions {
  readonly allNamespaces?: boolean;
  readonly watch?: boolean;
  readonly outputWatchEvents?: boolean;
}
