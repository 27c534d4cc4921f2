/**
 * The names of endpoints: by network, namespace and name or alias, and by their addresses.
 *
 * An alias may be that of several endpoints, and then means all of them that the client reaches. Nobody's alias means anything
 * where it is the name of an endpoint: a name stays with who has it.
 *
 * If an endpoint has a wildcard, so has each of its names. One word may be the name of an endpoint in the client's namespace and
 * that of a namespace: then endpoints of that namespace have the names below it that are theirs, and the wildcard means the others.
 */
import { bytesId } from '../flow/key.ts';
import type { ZoneEndpoint } from './records.ts';
import { addressRecords, byWildcard, NO_NAME, NOTHING, type NameFound, type Reachable } from './resource-record.ts';

export class EndpointNames {
  readonly #byId = new Map<string, ZoneEndpoint>();
  /** By `NAME.NAMESPACE.NETWORK`. */
  readonly #byName = new Map<string, ZoneEndpoint>();
  /** By `ALIAS.NAMESPACE.NETWORK`. */
  readonly #byAlias = new Map<string, ZoneEndpoint | Set<ZoneEndpoint>>();
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
    count(this.#counts, group, 1);
    for (const alias of value.aliases) addTo(this.#byAlias, `${alias}.${group}`, value);
    for (const ip of value.addresses) addTo(this.#byAddress, `${bytesId(ip)}${value.network}`, value);
  }

  /**
   * @param labels what is before the network @param namespace the client's
   * @returns what is at `NAME.NETWORK.weft` and `NAME.NAMESPACE.NETWORK.weft`, and below
   */
  find(network: string, labels: readonly string[], namespace: string, reach: Reachable): NameFound {
    if (labels.length === 0) return NOTHING;
    // To a client that reaches none of its addresses, an endpoint has no name.
    const at = (key: string, before: readonly string[]): NameFound | undefined => {
      const endpoint = this.#byName.get(key);
      const meant = endpoint ? [endpoint] : all(this.#byAlias.get(key));
      const records = addressRecords(meant.flatMap(({ addresses }) => addresses.filter((ip) => reach(ip, network))));
      if (records.length === 0) return undefined;
      if (before.length === 0) return { records };
      return endpoint?.hasWildcard ? byWildcard(before, records) : NO_NAME;
    };
    const last = labels.at(-1)!;
    return (
      (labels.length > 1 && at(`${labels.at(-2)}.${last}.${network}`, labels.slice(0, -2))) ||
      at(`${last}.${namespace}.${network}`, labels.slice(0, -1)) ||
      (labels.length === 1 && this.#counts.has(`${last}.${network}`) ? NOTHING : NO_NAME)
    );
  }

  /** The full names of who has an address. */
  namesOf(network: string, ip: Uint8Array): string[] {
    return all(this.#byAddress.get(`${bytesId(ip)}${network}`)).map((endpoint) => `${keyOf(endpoint)}.weft`);
  }

  #remove(endpoint: ZoneEndpoint): void {
    const { namespace, network, addresses } = endpoint;
    if (this.#byName.get(keyOf(endpoint)) === endpoint) this.#byName.delete(keyOf(endpoint));
    const group = `${namespace}.${network}`;
    count(this.#counts, group, -1);
    for (const alias of endpoint.aliases) removeFrom(this.#byAlias, `${alias}.${group}`, endpoint);
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

function all<T extends object>(found: T | Set<T> | undefined): T[] {
  if (found === undefined) return [];
  return found instanceof Set ? [...found] : [found];
}

export function removeFrom<T extends object>(map: Map<string, T | Set<T>>, key: string, value: T): void {
  const known = map.get(key);
  if (known === value) map.delete(key);
  else if (known instanceof Set && known.delete(value) && known.size === 0) map.delete(key);
}

/** There is one more of that key, or one less. */
export function count(counts: Map<string, number>, key: string, by: 1 | -1): void {
  const next = (counts.get(key) ?? 0) + by;
  if (next > 0) counts.set(key, next);
  else counts.delete(key);
}
