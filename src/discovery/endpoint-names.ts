/** The names of endpoints: by network, namespace and name, and by their addresses. */
import { bytesId } from '../flow/key.ts';
import type { ZoneEndpoint } from './records.ts';
import { addressRecords, NO_NAME, NOTHING, type NameFound, type Reachable } from './resource-record.ts';

export class EndpointNames {
  readonly #byId = new Map<string, ZoneEndpoint>();
  /** By `NAME.NAMESPACE.NETWORK`. */
  readonly #byName = new Map<string, ZoneEndpoint>();
  /** By `NAMESPACE.NETWORK`: how many there are. */
  readonly #counts = new Map<string, number>();
  /** By network and address: one, or more while it moves from one to the other. */
  readonly #byAddress = new Map<string, ZoneEndpoint | Set<ZoneEndpoint>>();

  set(id: string, value: ZoneEndpoint | undefined): void {
    const before = this.#byId.get(id);
    if (before) this.#remove(before);
    if (!value) return void this.#byId.delete(id);
    this.#byId.set(id, value);
    this.#byName.set(keyOf(value), value);
    const group = `${value.namespace}.${value.network}`;
    this.#counts.set(group, (this.#counts.get(group) ?? 0) + 1);
    for (const ip of value.addresses) addTo(this.#byAddress, `${bytesId(ip)}${value.network}`, value);
  }

  /**
   * @param name the whole name @param labels what is before the network @param namespace the client's
   * @returns what is at `NAME.NETWORK.weft` and `NAME.NAMESPACE.NETWORK.weft`
   */
  find(name: string, network: string, labels: readonly string[], namespace: string, reach: Reachable): NameFound {
    if (labels.length === 0) return NOTHING;
    const last = labels.at(-1)!;
    const reached = (endpoint: ZoneEndpoint | undefined): Uint8Array[] =>
      endpoint?.addresses.filter((ip) => reach(ip, network)) ?? [];
    if (labels.length === 1) {
      const own = reached(this.#byName.get(`${last}.${namespace}.${network}`));
      if (own.length > 0) return { records: addressRecords(name, own) };
      return this.#counts.has(`${last}.${network}`) ? NOTHING : NO_NAME;
    }
    if (labels.length > 2) return NO_NAME;
    const found = reached(this.#byName.get(`${labels[0]}.${last}.${network}`));
    return found.length > 0 ? { records: addressRecords(name, found) } : NO_NAME;
  }

  /** The full names of who has an address. */
  namesOf(network: string, ip: Uint8Array): string[] {
    const found = this.#byAddress.get(`${bytesId(ip)}${network}`);
    const endpoints = found instanceof Set ? [...found] : found ? [found] : [];
    return endpoints.map((endpoint) => `${keyOf(endpoint)}.weft`);
  }

  #remove(endpoint: ZoneEndpoint): void {
    const { namespace, network, addresses } = endpoint;
    if (this.#byName.get(keyOf(endpoint)) === endpoint) this.#byName.delete(keyOf(endpoint));
    const group = `${namespace}.${network}`;
    const left = (this.#counts.get(group) ?? 0) - 1;
    if (left > 0) this.#counts.set(group, left);
    else this.#counts.delete(group);
    for (const ip of addresses) removeFrom(this.#byAddress, `${bytesId(ip)}${network}`, endpoint);
  }
}

function keyOf({ name, namespace, network }: ZoneEndpoint): string {
  return `${name}.${namespace}.${network}`;
}

/** Most keys have one value, which then needs no set. */
export function addTo<T extends object>(map: Map<string, T | Set<T>>, key: string, value: T): void {
  const known = map.get(key);
  if (known === undefined) map.set(key, value);
  else if (known instanceof Set) known.add(value);
  else map.set(key, new Set([known, value]));
}

export function removeFrom<T extends object>(map: Map<string, T | Set<T>>, key: string, value: T): void {
  const known = map.get(key);
  if (known === value) map.delete(key);
  else if (known instanceof Set && known.delete(value) && known.size === 0) map.delete(key);
}
