/** `weft services [NAME]` */
import type { Command } from 'commander';
import { compareNames } from '../model/name-order.ts';
import { idOf, nameOf } from '../model/name.ts';
import type { ServiceBackendReport, ServiceReport } from '../model/report.ts';
import { portText } from './decision.ts';
import type { NamespaceOptions } from './kind.ts';
import { colours, durationText, fields, numberText, print, table, write, type Cell } from './print.ts';
import { clientOf, globals, verb, type OutputFormat } from './verb.ts';

export function services(program: Command): void {
  verb(program, 'services [name]', {
    summary: 'list the services, or show one and its backends',
    examples: [
      'weft services',
      'weft services web -n shop     # its backends, their states and connections',
      'weft services shop/web -o json',
      'weft services -o wide',
    ],
  })
    .option('-n, --namespace <name>', 'of this namespace alone; with NAME, default if it is not given')
    .option('-A, --all-namespaces', 'of all namespaces (the default)')
    .action(async (given: string | undefined, options: Options, command: Command) => {
      if (given !== undefined && options.allNamespaces)
        command.error('error: give either NAME or -A: a name is unique only within its namespace (-n)');
      if (given?.includes('/') && options.namespace !== undefined)
        command.error(`error: ${given}: a name has no "/" beside -n, which gives the namespace`);
      const { name, namespace } =
        given === undefined || options.namespace !== undefined
          ? { name: given, namespace: options.namespace }
          : nameOf(given);
      const found = await clientOf(command).services(name, { namespace });
      const report = found.sort((a, b) => compareNames(idOf(a), idOf(b)));
      const output = globals(command).output as OutputFormat | 'name' | 'wide';
      const isWide = output === 'wide';
      if (output === 'name') return write(report.map((service) => `service/${idOf(service)}\n`).join(''));
      const text = (): Promise<string> =>
        name === undefined ? serviceTable(report, options, isWide) : serviceText(report[0]!, isWide);
      if (isWide) return write(await text());
      await print(output, name === undefined ? report : report[0], text);
    });
}

interface Options extends NamespaceOptions {
  readonly allNamespaces?: boolean;
}

/** Below the table, one line for each backend that has failed. */
async function serviceTable(
  report: readonly ServiceReport[],
  { namespace }: NamespaceOptions,
  isWide: boolean,
): Promise<string> {
  const heads = ['NAME', 'ADDRESSES', 'PORTS', 'READY', 'CONNECTIONS', 'METHOD', 'AFFINITY'];
  const rows = report.map((service): Cell[] => {
    const { backends } = service;
    const ready = backends.filter(({ state }) => state === 'ready').length;
    return [
      idOf(service),
      addressText(service),
      service.ports.map(portText).join(','),
      `${ready}/${backends.length}`,
      numberText(backends.reduce((sum, { connections }) => sum + connections, 0)),
      service.balancing,
      affinityText(service),
      ...(isWide ? policyCells(service).map(([, cell]) => cell) : []),
    ];
  });
  const failed = report.flatMap((service) =>
    service.backends
      .filter(({ state }) => FAILED.has(state))
      .map((backend) => `${idOf(service)}: backend ${nameText(backend)}: ${backend.state}: ${backend.why ?? ''}\n`),
  );
  const where = namespace === undefined ? '' : ` in namespace "${namespace}"`;
  const shown = await table(
    isWide ? [...heads, 'EXTERNAL', 'POLICY', 'EXTERNAL POLICY', 'DISTRIBUTION', 'DRAIN'] : heads,
    rows,
    `No services${where}: declare one with \`weft apply -f FILE\`.`,
  );
  return `${shown}${failed.length > 0 ? '\n' : ''}${failed.join('')}`;
}

const FAILED: ReadonlySet<ServiceBackendReport['state']> = new Set(['host down', 'ejected', 'check failed']);

async function serviceText(service: ServiceReport, isWide: boolean): Promise<string> {
  const paint = await colours();
  const { backends, ports } = service;
  const facts = fields([
    ['Service', idOf(service)],
    ['Addresses', addressText(service)],
    ['Ports', ports.map((port) => (port.name === '' ? portText(port) : `${port.name} ${portText(port)}`)).join(', ')],
    ['Method', service.balancing],
    ['Affinity', affinityText(service)],
    ...(isWide ? policyCells(service) : []),
  ]);
  const heads = ['BACKEND', 'ADDRESS', 'PORTS', 'HOST', 'STATE', 'WEIGHT', 'CONNECTIONS'];
  const rows = backends.map((backend): Cell[] => [
    nameText(backend),
    backend.address,
    backend.ports.map((port) => port ?? '-').join(','),
    backend.host ?? '',
    backend.state === 'ready' ? paint('green', backend.state) : paint('red', backend.state),
    backend.weight,
    numberText(backend.connections),
    ...(isWide ? [backend.network ?? '', backend.zone ?? ''] : []),
    backend.why ?? '',
  ]);
  const none = service.externalName === undefined ? 'No backends.' : 'No backends: clients ask for the other name.';
  return `${facts}\n${await table([...heads, ...(isWide ? ['NETWORK', 'ZONE'] : []), 'WHY'], rows, none)}`;
}

function policyCells(service: ServiceReport): [string, Cell][] {
  return [
    ['External addresses', service.externalAddresses.join(',')],
    ['Policy', service.internalTrafficPolicy],
    ['External policy', service.externalTrafficPolicy],
    ['Distribution', service.trafficDistribution],
    ['Drain', durationText(service.drainMs)],
  ];
}

function addressText({ addresses, externalName }: ServiceReport): string {
  return externalName ?? (addresses.join(',') || 'None');
}

function affinityText({ affinityMs }: ServiceReport): string {
  return affinityMs === undefined ? '' : `ClientIP ${durationText(affinityMs)}`;
}

function nameText({ endpoint, address }: ServiceBackendReport): string {
  return endpoint ?? address;
}
