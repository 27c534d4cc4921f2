/**
 * The names of services, below `svc.cluster.local`, and the services that have an address.
 *
 * Below a service, names that begin with a protocol belong to SRV records, those of backends to a headless service, and
 * whatever else there is to its wildcard, if it has one.
 */
import { bytesId } from '../flow/key.ts';
import { formatIp, type Vni } from '../flow/types.ts';
import { IP_TCP } from '../wire/ipv4.ts';
import { addTo, removeFrom } from './endpoint-names.ts';
import type { ZoneBackend, ZonePort, ZoneService } from './records.ts';
import {
  addressRecords,
  byWildcard,
  NO_NAME,
  NOTHING,
  type NameFound,
  type Reachable,
  type ResourceRecord,
} from './resource-record.ts';

export const CLUSTER_DOMAIN = 'cluster.local';
export const SERVICES = `svc.${CLUSTER_DOMAIN}`;

export class ServiceNames {
  readonly #byId = new Map<string, ZoneService>();
  readonly #namespaces = new Map<string, number>();
  readonly #byVip = new Map<string, ZoneService | Set<ZoneService>>();
  /** Headless ones, by VNI and the address of a backend. */
  readonly #byBackend = new Map<string, ZoneService | Set<ZoneService>>();

  set(id: string, value: ZoneService | undefined): void {
    const before = this.#byId.get(id);
    if (before) {
      this.#byId.delete(id);
      count(this.#namespaces, before.namespace, -1);
      for (const [map, key] of this.#keysOf(before)) removeFrom(map, key, before);
    }
    if (!value) return;
    this.#byId.set(id, value);
    count(this.#namespaces, value.namespace, 1);
    for (const [map, key] of this.#keysOf(value)) addTo(map, key, value);
  }

  /** @param name the whole name @param labels what is before `svc` */
  find(name: string, labels: readonly string[], reach: Reachable): NameFound {
    const namespace = labels.at(-1);
    if (namespace === undefined) return NOTHING;
    if (labels.length === 1) return this.#namespaces.has(namespace) ? NOTHING : NO_NAME;
    const service = this.#byId.get(`${namespace}/${labels.at(-2)}`);
    if (!service) return NO_NAME;
    const seen = seenFrom(service, reach);
    const own = recordsOf(name, seen);
    if (own.length === 0) return NO_NAME;
    return labels.length === 2 ? { records: own } : below(name, labels.slice(0, -2), seen, own);
  }

  namesOfVip(ip: Uint8Array): string[] {
    return all(this.#byVip.get(bytesId(ip))).map(nameOf);
  }

  /** The names of a backend of headless services. */
  namesOfBackend(vni: Vni, ip: Uint8Array): string[] {
    const id = bytesId(ip);
    return all(this.#byBackend.get(`${vni}/${id}`)).flatMap((service) => {
      const backend = service.backends.find((one) => one.vni === vni && bytesId(one.address) === id);
      return backend ? [`${hostnameOf(backend)}.${nameOf(service)}`] : [];
    });
  }

  /** Where it is entered, and under which keys. */
  #keysOf({ vips, backends }: ZoneService): Entry[] {
    const ofBackend = ({ vni, address }: ZoneBackend): Entry => [this.#byBackend, `${vni}/${bytesId(address)}`];
    return [...vips.map((ip): Entry => [this.#byVip, bytesId(ip)]), ...backends.map(ofBackend)];
  }
}

type Entry = readonly [Map<string, ZoneService | Set<ZoneService>>, string];

/** A service with those of its backends that the client reaches, each with its place in the list of targets. */
interface Seen extends ZoneService {
  readonly reached: readonly { readonly backend: ZoneBackend; readonly at: number }[];
}

function seenFrom(service: ZoneService, reach: Reachable): Seen {
  const reached = service.backends.flatMap((backend, at) =>
    reach(backend.address, backend.vni) ? [{ backend, at }] : [],
  );
  return { ...service, reached };
}

/** The records of the service's own name; empty if the client reaches nothing there, and the name does not exist. */
function recordsOf(name: string, { externalName, vips, reached }: Seen): ResourceRecord[] {
  if (externalName !== undefined) return [{ name, type: 'CNAME', data: trimmed(externalName) }];
  return addressRecords(name, vips.length > 0 ? vips : reached.map(({ backend }) => backend.address));
}

/** @param labels what is before the service's name */
function below(name: string, labels: readonly string[], seen: Seen, own: readonly ResourceRecord[]): NameFound {
  const first = labels.at(-1)!;
  const ofProtocol = seen.externalName === undefined ? portsOf(seen, first) : [];
  if (ofProtocol.length > 0) {
    if (labels.length === 1) return NOTHING;
    const port = ofProtocol.find((one) => `_${one.name}` === labels.at(-2));
    return port && labels.length === 2 ? { records: srvOf(name, seen, port) } : NO_NAME;
  }
  const backends = seen.reached.filter(({ backend }) => hostnameOf(backend) === first);
  if (backends.length > 0) {
    const addresses = backends.map(({ backend }) => backend.address);
    return labels.length === 1 ? { records: addressRecords(name, addresses) } : NO_NAME;
  }
  return seen.hasWildcard ? byWildcard(labels, own) : NO_NAME;
}

/** The ports of a protocol that somebody has whom the client reaches. */
function portsOf({ ports, vips, reached }: Seen, label: string): ZonePort[] {
  const isSeen = ({ targets }: ZonePort): boolean => vips.length > 0 || reached.some(({ at }) => targets[at] !== 0);
  return ports.filter((port) => protocolLabel(port) === label && isSeen(port));
}

function srvOf(name: string, { vips, reached, ...service }: Seen, { l4Port, targets }: ZonePort): ResourceRecord[] {
  const record = (target: string, port: number): ResourceRecord => ({
    name,
    type: 'SRV',
    data: { priority: 0, weight: 1, port, target },
  });
  if (vips.length > 0) return [record(nameOf(service), l4Port)];
  // An endpoint with an address of each family is one target.
  const found = new Map<string, number>();
  for (const { backend, at } of reached) if (targets[at] !== 0) found.set(hostnameOf(backend), targets[at]!);
  return [...found].map(([hostname, port]) => record(`${hostname}.${nameOf(service)}`, port));
}

function protocolLabel({ protocol }: ZonePort): string {
  return protocol === IP_TCP ? '_tcp' : '_udp';
}

/** The name of a backend below that of its service: what it is called, or its address. */
function hostnameOf({ hostname, address }: ZoneBackend): string {
  return hostname ?? formatIp(address).replaceAll(/[.:]/g, '-');
}

function nameOf({ name, namespace }: Pick<ZoneService, 'name' | 'namespace'>): string {
  return `${name}.${namespace}.${SERVICES}`;
}

function trimmed(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

function count(counts: Map<string, number>, key: string, by: number): void {
  const next = (counts.get(key) ?? 0) + by;
  if (next > 0) counts.set(key, next);
  else counts.delete(key);
}

function all<T>(found: T | Set<T> | undefined): T[] {
  if (found === undefined) return [];
  return found instanceof Set ? [...found] : [found];
}
