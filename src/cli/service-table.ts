/** Services and their backends as tables. */
import { idOf } from '../model/name.ts';
import { servicePortText } from '../model/service-port-text.ts';
import type { ServiceBackendReport, ServiceReport } from '../model/service-report.ts';
import type { NamespaceOptions } from './kind.ts';
import { colours, durationText, fields, numberText, table, type Cell, type Colour } from './print.ts';
import { ruleFields } from './rule-text.ts';

/** Below the table, one line for each backend that has failed. */
export async function serviceTable(
  report: readonly ServiceReport[],
  { namespace }: NamespaceOptions,
  isWide: boolean,
): Promise<string> {
  const failed = report.flatMap((service) =>
    service.backends
      .filter(({ state }) => FAILED.has(state))
      .map((backend) => `${idOf(service)}: backend ${nameText(backend)}: ${backend.state}: ${backend.why ?? ''}\n`),
  );
  const where = namespace === undefined ? '' : ` in namespace "${namespace}"`;
  const shown = await table(
    serviceHeads(isWide),
    report.map((service) => serviceRow(service, isWide)),
    `No services${where}: declare one with \`weft apply -f FILE\`.`,
  );
  return `${shown}${failed.length > 0 ? '\n' : ''}${failed.join('')}`;
}

const FAILED: ReadonlySet<ServiceBackendReport['state']> = new Set(['host down', 'ejected', 'check failed']);

export async function serviceText(service: ServiceReport, isWide: boolean): Promise<string> {
  const paint = await colours();
  const { backends, ports } = service;
  const facts = fields([
    ['Service', idOf(service)],
    ['Addresses', addressText(service)],
    ...externalCells(service),
    [
      'Ports',
      ports
        .map((port) => (port.name === '' ? servicePortText(port) : `${port.name} ${servicePortText(port)}`))
        .join(', '),
    ],
    ['Method', methodText(service)],
    ['Affinity', affinityText(service)],
    ...ruleFields(service),
    ...(isWide ? policyCells(service) : []),
  ]);
  const hasSubsets = isWide || service.subsets !== undefined;
  const rows = backends.map((backend) => backendRow(backend, isWide, paint, hasSubsets));
  const none = service.externalName === undefined ? NO_BACKENDS : 'No backends: clients ask for the other name.';
  return `${facts}\n${await table(backendHeads(isWide, hasSubsets), rows, none)}`;
}

export async function backendTable(backends: readonly ServiceBackendReport[]): Promise<string> {
  const paint = await colours();
  const rows = backends.map((backend) => backendRow(backend, false, paint));
  return table(backendHeads(false), rows, 'No backends.');
}

const NO_BACKENDS =
  'No backends: no endpoint has the labels of its selector, and no EndpointSlice gives it an address of its families\n' +
  'that an endpoint can have (`weft get endpointslices`; `weft doctor` names those that are left out).';

export function serviceHeads(isWide: boolean): string[] {
  const heads = ['NAME', 'ADDRESSES', 'PORTS', 'READY', 'CONNECTIONS', 'METHOD', 'AFFINITY'];
  return isWide ? [...heads, 'EXTERNAL', 'POLICY', 'EXTERNAL POLICY', 'DISTRIBUTION', 'DRAIN'] : heads;
}

export function serviceRow(service: ServiceReport, isWide: boolean): Cell[] {
  const { backends } = service;
  // An endpoint with addresses of both families is a backend for each of them.
  const ready = new Set(backends.filter(({ state }) => state === 'ready').map(nameText));
  return [
    idOf(service),
    addressText(service),
    service.ports.map(servicePortText).join(','),
    // One that is only another name has none, and lacks none.
    service.externalName === undefined ? `${ready.size}/${new Set(backends.map(nameText)).size}` : '',
    numberText(backends.reduce((sum, { connections }) => sum + connections, 0)),
    methodText(service),
    affinityText(service),
    ...(isWide ? [service.externalAddresses.join(','), ...policyCells(service).map(([, cell]) => cell)] : []),
  ];
}

export function backendHeads(isWide: boolean, hasSubsets = isWide): string[] {
  const heads = ['BACKEND', 'ADDRESS', 'PORTS', 'HOST', 'STATE', 'WEIGHT', 'CONNECTIONS'];
  return [...heads, ...(hasSubsets ? ['SUBSETS'] : []), ...(isWide ? ['NETWORK', 'ZONE'] : []), 'WHY'];
}

/** @param paint of a terminal whose columns do not depend on it */
export function backendRow(
  backend: ServiceBackendReport,
  isWide: boolean,
  paint: (colour: Colour, text: string) => string = (_, text) => text,
  hasSubsets = isWide,
): Cell[] {
  return [
    nameText(backend),
    backend.address,
    backend.ports.map((port) => port ?? '-').join(','),
    backend.host ?? '',
    paint(backend.state === 'ready' ? 'green' : 'red', backend.state),
    backend.weight,
    numberText(backend.connections),
    ...(hasSubsets ? [backend.subsets?.join(',') ?? ''] : []),
    ...(isWide ? [backend.network ?? '', backend.zone ?? ''] : []),
    backend.why ?? '',
  ];
}

/** Where clients outside reach it besides its node ports. */
function externalCells({ externalAddresses }: ServiceReport): [string, Cell][] {
  return externalAddresses.length === 0 ? [] : [['External addresses', externalAddresses.join(',')]];
}

function policyCells(service: ServiceReport): [string, Cell][] {
  return [
    ['Policy', service.internalTrafficPolicy],
    ['External policy', service.externalTrafficPolicy],
    ['Distribution', service.trafficDistribution],
    ['Drain', durationText(service.drainMs)],
  ];
}

/** Without an address, weft balances nothing: clients choose by themselves. */
function methodText({ addresses, balancing }: ServiceReport): string {
  return addresses.length === 0 ? '' : balancing;
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
