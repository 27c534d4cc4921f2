/** `weft describe KIND NAME`: a resource as declared, and its state in the switch. */
import type { Command } from 'commander';
import type { Client } from '../api/client.ts';
import { WeftError } from '../error.ts';
import type { EndpointReport, HostReport, NetworkReport } from '../model/report.ts';
import type { ServiceBackendReport } from '../model/service-report.ts';
import type { KindDefinition } from '../model/kinds/kind.ts';
import type { ResourceName } from '../model/name.ts';
import type { Resource } from '../model/resource.ts';
import { endpointTable } from './endpoint-table.ts';
import { backendTable } from './service-table.ts';
import { parseNamed, withKinds, withNamespace, type NamespaceOptions } from './kind.ts';
import { fields, numberText, pairsText, print, type Cell } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

interface Description {
  readonly resource: Resource;
  readonly report?: NetworkReport | EndpointReport | HostReport;
  /** Of a network. */
  readonly endpoints?: readonly EndpointReport[];
  /** Of a service. */
  readonly backends?: readonly ServiceBackendReport[];
}

export function describe(program: Command): void {
  const command = verb(program, 'describe <kind> [name]', {
    summary: 'show one resource and its live state',
    examples: [
      'weft describe network blue',
      'weft describe endpoint web -o json',
      'weft describe ep/web -n shop',
      'weft describe service shop/web',
      'weft describe host b',
    ],
  });
  withNamespace(withKinds(command)).action(
    async (kindText: string, nameText: string | undefined, options: NamespaceOptions, command: Command) => {
      const { kind, name, namespace } = await parseNamed(kindText, nameText, options, command);
      const description = await read(clientOf(command), kind, { name, namespace });
      await print(globals(command).output, description, () => descriptionText(description));
    },
  );
}

async function read(client: Client, { kind }: KindDefinition, { name, namespace }: ResourceName): Promise<Description> {
  const [resource] = await client.get(kind, name, { namespace });
  if (resource === undefined) throw new WeftError('not_found', `there is no ${kind.toLowerCase()} "${name}"`);
  return { resource, ...(await live[kind]?.(client, resource)) };
}

/** The state of a resource in the switch, by kind. */
const live: Readonly<Record<string, (client: Client, resource: Resource) => Promise<Omit<Description, 'resource'>>>> = {
  Endpoint: async (client, { metadata }) => {
    const report = (await client.endpoints()).find(
      ({ name, namespace }) => name === metadata.name && namespace === metadata.namespace,
    );
    return report ? { report } : {};
  },
  // The host that answers is not among them: that is what `weft status` shows.
  Host: async (client, { metadata }) => {
    const report = (await client.hosts()).find(({ name }) => name === metadata.name);
    return report ? { report } : {};
  },
  Network: async (client, { metadata: { name } }) => {
    const [networks, endpoints] = await Promise.all([client.networks(), client.endpoints()]);
    const report = networks.find((network) => network.name === name);
    return { ...(report && { report }), endpoints: endpoints.filter(({ network }) => network === name) };
  },
  Service: async (client, { metadata: { name, namespace } }) => {
    const found = (await client.services(undefined, { namespace })).find((service) => service.name === name);
    return found ? { backends: found.backends } : {};
  },
};

async function descriptionText({ resource, report, endpoints, backends }: Description): Promise<string> {
  // Some kinds have their fields beside the metadata.
  const { apiVersion: _, kind, metadata, spec, ...own } = resource;
  const declared = spec ?? own;
  const head = fields([
    ['Kind', kind],
    ['Name', metadata.name],
    ...(metadata.namespace === undefined ? [] : [['Namespace', metadata.namespace] as const]),
    ['Labels', pairsText(metadata.labels)],
    ...(metadata.annotations === undefined ? [] : [['Annotations', pairsText(metadata.annotations)] as const]),
  ]);
  const sections =
    Object.keys(declared).length === 0 ? [head] : [head, `Spec:\n${await objectText({ ...declared }, String)}`];
  if (report) {
    // Leaves out what the header and the spec already say.
    const live = Object.fromEntries(Object.entries(report).filter(([key]) => !(key in metadata) && key !== 'network'));
    if (typeof live.endpoints === 'number') delete live.endpoints;
    sections.push(`Status:\n${await objectText(live, numberText)}`);
  }
  if (endpoints) sections.push(`Endpoints:\n${await endpointTable(endpoints)}`);
  if (backends) sections.push(`Backends:\n${await backendTable(backends)}`);
  return sections.join('\n');
}

/**
 * A line for each field. What has maps within maps is a block of YAML: on one line, nobody could tell what belongs to what.
 * @param number how numbers within maps are written: those that were declared are exact, counters are short
 */
async function objectText(
  object: Readonly<Record<string, unknown>>,
  number: (value: number) => string,
): Promise<string> {
  const { stringify } = await import('./yaml.ts');
  const entries = Object.entries(object);
  const isBlock = ([, value]: readonly [string, unknown]): boolean => hasMapInMap(value);
  const lines = entries
    .filter((entry) => !isBlock(entry))
    .map(([key, value]) => [key, value === null ? '' : valueText(value, number)] as const);
  const blocks = entries
    .filter(isBlock)
    .map(([key, value]) => stringify({ [key]: value }).replaceAll(/^(?=.)/gm, '  '));
  return [...(lines.length > 0 ? [fields(lines, '  ')] : []), ...blocks].join('');
}

function hasMapInMap(value: unknown, isInMap = false): boolean {
  if (Array.isArray(value)) return value.some((one) => hasMapInMap(one, isInMap));
  if (typeof value !== 'object' || value === null) return false;
  return isInMap || Object.values(value).some((one) => hasMapInMap(one, true));
}

function valueText(value: unknown, number: (value: number) => string): Cell {
  const textOf = (one: unknown): Cell => valueText(one, number);
  if (Array.isArray(value)) return value.map(textOf).join(typeof value[0] === 'object' ? '; ' : ', ');
  if (typeof value === 'object' && value !== null) {
    const pairs = Object.entries(value).map(([key, one]) => [
      key,
      typeof one === 'number' ? number(one) : String(textOf(one)),
    ]);
    return pairsText(Object.fromEntries(pairs));
  }
  if (typeof value === 'number' && !Number.isInteger(value)) return value.toFixed(2);
  return String(value);
}
