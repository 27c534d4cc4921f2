/**
 * A service as it looks from one network: the records of its names, of those of its backends that are reached from there. It is put
 * together once, so that a question costs the same however many backends there are.
 *
 * Below a service, names that begin with a protocol belong to SRV records, those of backends to a headless service, and
 * whatever else there is to its wildcard, if it has one.
 */
import { formatIp } from '../flow/types.ts';
import { CLUSTER_DOMAIN } from '../model/service-host.ts';
import { IP_TCP } from '../wire/ipv4.ts';
import type { ZoneBackend, ZonePort, ZoneService } from './records.ts';
import {
  addressRecord,
  addressRecords,
  byWildcard,
  NO_NAME,
  NOTHING,
  type NameFound,
  type OwnRecord,
  type Reachable,
} from './resource-record.ts';

const SERVICES = `svc.${CLUSTER_DOMAIN}`;

/** What a container's resolver puts behind a name that it is asked for: as in Kubernetes, then endpoints of the network. */
export function searchPath(namespace: string, network: string): string[] {
  return [`${namespace}.${SERVICES}`, SERVICES, CLUSTER_DOMAIN, `${network}.weft`];
}

/** A backend, with its place in the list of targets. */
interface Reached {
  readonly backend: ZoneBackend;
  readonly at: number;
}

export class ServiceView {
  /** Those of the service's own name; empty if nothing of it is reached, and the name does not exist. */
  readonly records: readonly OwnRecord[];
  readonly #service: ZoneService;
  readonly #reached: readonly Reached[];
  /** Made with the first question that needs it. */
  #byHostname: ReadonlyMap<string, readonly OwnRecord[]> | undefined;
  /** Ports that the service, or somebody who is reached, has. */
  readonly #ports: readonly ZonePort[];
  readonly #targets = new Map<ZonePort, readonly OwnRecord[]>();

  constructor(service: ZoneService, reach: Reachable) {
    const { backends, externalName, ports, vips } = service;
    this.#service = service;
    this.#reached = backends.flatMap((backend, at) => (reach(backend.address, backend.vni) ? [{ backend, at }] : []));
    const isSeen = ({ targets }: ZonePort): boolean =>
      vips.length > 0 || this.#reached.some(({ at }) => targets[at] !== 0);
    this.#ports = externalName === undefined ? ports.filter(isSeen) : [];
    if (externalName !== undefined) this.records = [{ type: 'CNAME', data: trimmed(externalName) }];
    else if (vips.length > 0) this.records = addressRecords(vips);
    else this.records = this.#reached.map(({ backend }) => recordOf(backend));
  }

  /** @param labels what is before the service's name */
  below(labels: readonly string[]): NameFound {
    const first = labels.at(-1)!;
    const ofProtocol = this.#ports.filter((port) => protocolLabel(port) === first);
    if (ofProtocol.length > 0) {
      if (labels.length === 1) return NOTHING;
      const port = ofProtocol.find((one) => `_${one.name}` === labels.at(-2));
      return port && labels.length === 2 ? { records: this.#targetsOf(port) } : NO_NAME;
    }
    const addresses = (this.#byHostname ??= this.#hostnames()).get(first);
    if (addresses) return labels.length === 1 ? { records: addresses } : NO_NAME;
    return this.#service.hasWildcard ? byWildcard(labels, this.records) : NO_NAME;
  }

  #hostnames(): ReadonlyMap<string, readonly OwnRecord[]> {
    const found = new Map<string, OwnRecord[]>();
    for (const { backend } of this.#reached) {
      const hostname = hostnameOf(backend);
      const others = found.get(hostname);
      if (others) others.push(recordOf(backend));
      else found.set(hostname, [recordOf(backend)]);
    }
    return found;
  }

  #targetsOf(port: ZonePort): readonly OwnRecord[] {
    let records = this.#targets.get(port);
    if (!records) this.#targets.set(port, (records = this.#srvOf(port)));
    return records;
  }

  #srvOf({ l4Port, targets }: ZonePort): readonly OwnRecord[] {
    const name = nameOf(this.#service);
    if (this.#service.vips.length > 0) return [srv(name, l4Port)];
    // An endpoint with an address of each family is one target.
    const found = new Map<string, number>();
    for (const { backend, at } of this.#reached) if (targets[at] !== 0) found.set(hostnameOf(backend), targets[at]!);
    return [...found].map(([hostname, port]) => srv(`${hostname}.${name}`, port));
  }
}

/** Of its address. A backend stays the same object while others of its service change. */
const records = new WeakMap<ZoneBackend, OwnRecord>();

function recordOf(backend: ZoneBackend): OwnRecord {
  let record = records.get(backend);
  if (!record) records.set(backend, (record = addressRecord(backend.address)));
  return record;
}

function srv(target: string, port: number): OwnRecord {
  return { type: 'SRV', data: { priority: 0, weight: 1, port, target } };
}

function protocolLabel({ protocol }: ZonePort): string {
  return protocol === IP_TCP ? '_tcp' : '_udp';
}

/** The name of a backend below that of its service: what it is called, or its address. */
export function hostnameOf({ hostname, address }: ZoneBackend): string {
  return hostname ?? formatIp(address).replaceAll(/[.:]/g, '-');
}

export function nameOf({ name, namespace }: Pick<ZoneService, 'name' | 'namespace'>): string {
  return `${name}.${namespace}.${SERVICES}`;
}

function trimmed(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}
