/** A zone for tests: what it is made of, and answers as text. */
import { parseIp, type Vni } from '../../src/flow/types.ts';
import type { ServiceUpdate, ZoneChange, ZoneEndpoint, ZoneNetwork, ZoneService } from '../../src/discovery/records.ts';
import type { ResourceRecord } from '../../src/discovery/resource-record.ts';
import { Zone, type ZoneClient } from '../../src/discovery/zone.ts';

export function prefix(text: string) {
  const [ip = '', length] = text.split('/');
  return { ip: parseIp(ip), length: Number(length) };
}

export function network(
  name: string,
  vni: number,
  subnets: readonly string[],
  more: Partial<ZoneNetwork> = {},
): ZoneChange {
  const gateways = subnets.map((text) => parseIp(text.replace(/(?:0\/\d+|\/\d+)$/, '1')));
  const value = { name, vni: vni as Vni, subnets: subnets.map(prefix), gateways, routes: [], outside: false, ...more };
  return { kind: 'network', name, value };
}

/** @param id `NAMESPACE/NAME` */
export function endpoint(id: string, of: string, ...addresses: readonly string[]): ZoneChange {
  const [namespace = '', name = ''] = id.split('/');
  const value = { name, namespace, network: of, addresses: addresses.map(parseIp), hasWildcard: false, aliases: [] };
  return { kind: 'endpoint', id, value };
}

/** The same, with a wildcard. */
export function anyBelow(id: string, of: string, ...addresses: readonly string[]): ZoneChange {
  const { value } = endpoint(id, of, ...addresses) as { readonly value: ZoneEndpoint };
  return { kind: 'endpoint', id, value: { ...value, hasWildcard: true } };
}

/** The same, with other names. */
export function aliased(
  id: string,
  of: string,
  aliases: readonly string[],
  ...addresses: readonly string[]
): ZoneChange {
  const { value } = endpoint(id, of, ...addresses) as { readonly value: ZoneEndpoint };
  return { kind: 'endpoint', id, value: { ...value, aliases } };
}

export interface ServiceText {
  readonly vips?: readonly string[];
  readonly externalName?: string;
  readonly hasWildcard?: boolean;
  readonly ports?: ZoneService['ports'];
  readonly backends?: readonly { readonly ip: string; readonly vni?: number; readonly hostname?: string }[];
}

/** All of a service. @param id `NAMESPACE/NAME` */
export function service(id: string, text: ServiceText): ZoneChange {
  const { vips = [], externalName, hasWildcard = false, ports = [], backends = [] } = text;
  const [namespace = '', name = ''] = id.split('/');
  const by = {
    addresses: new Uint8Array(backends.flatMap(({ ip }) => [...parseIp(ip)])),
    vnis: backends.map(({ vni }) => vni as Vni | undefined),
    hostnames: backends.map(({ hostname }) => hostname),
    targets: ports.map(({ targets }) => Uint16Array.from(targets)),
  };
  const value: ServiceUpdate = {
    ...{ name, namespace, externalName, hasWildcard },
    vips: vips.map(parseIp),
    ports: ports.map(({ targets: _, ...port }) => port),
    // Whatever backends it had.
    replaced: [{ at: 0, count: Infinity, by }],
  };
  return { kind: 'service', id, value };
}

export function zoneOf(changes: readonly ZoneChange[], randomBelow: (limit: number) => number = () => 0): Zone {
  const zone = new Zone(randomBelow);
  for (const change of changes) zone.apply(change);
  return zone;
}

export const inRed: ZoneClient = { network: 'red', namespace: 'default' };
export const inBlue: ZoneClient = { network: 'blue', namespace: 'default' };

/** What an answer says: the code, and each record as `NAME TYPE DATA`, sorted. */
export function shown(zone: Zone, name: string, type: string, client: ZoneClient = inRed): string[] {
  const answer = zone.answer(name, type, client);
  if (!answer) return ['elsewhere'];
  const { rcode, answers, additionals, leadsTo } = answer;
  return [
    rcode,
    ...answers.map(recordText).sort(),
    ...[...additionals].map((record) => `+ ${recordText(record)}`).sort(),
    ...(leadsTo === undefined ? [] : [`leads to ${leadsTo}`]),
  ];
}

export function recordText({ name, type, data }: ResourceRecord): string {
  if (typeof data === 'string') return `${name} ${type} ${data}`;
  if ('target' in data) return `${name} ${type} ${data.port} ${data.target}`;
  return `${name} ${type} ${Array.isArray(data) ? data.join(' ') : (data as { mname: string }).mname}`;
}
