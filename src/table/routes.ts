/**
 * Routes of one network: longest prefix match over IPv4 and IPv6 prefixes.
 *
 * There is one exact-match table for each prefix length, longest first, because few lengths are in
 * use. Any change builds a new table. The two families never mix: addresses are 16 bytes, but `::/0`
 * does not cover IPv4-mapped ones.
 *
 * Each route is an object of its own, and a decision consults the one that its lookup found. A new
 * route takes its addresses away from the next shorter prefix that covers it, so that route changes
 * with it, and no other does.
 */
import { bytesId } from '../flow/key.ts';
import { formatIp, isIp4, parseIp, sameBytes, type Vni } from '../flow/types.ts';

export interface Prefix {
  /** 16 bytes, IPv4-mapped or IPv6; bits beyond the length are ignored. */
  readonly ip: Uint8Array;
  /** 0 … 32 for IPv4, 0 … 128 for IPv6. */
  readonly length: number;
}

/** Where a route leads. */
export type RouteTarget =
  /** The destination is in that network itself. */
  | { readonly kind: 'network'; readonly network: string }
  /** One of the next hops in `network`, chosen by flow hash. */
  | { readonly kind: 'via'; readonly network: string; readonly hops: readonly Uint8Array[] }
  /** Out of all networks, with another source address. */
  | { readonly kind: 'outside' }
  /** Dropped, either silently or with the ICMP error of that name. */
  | { readonly kind: 'blackhole' | 'unreachable' | 'prohibit' };

export type Route = { readonly prefix: Prefix } & RouteTarget;

/** The result of a lookup: a route or none, and the object that a decision consults because of it. */
export interface FoundRoute {
  readonly route: Route | undefined;
  readonly object: string;
}

export class RouteTable {
  readonly #ip4: Family;
  readonly #ip6: Family;

  /** If two routes have the same prefix, the first one counts. @param vni of the network whose routes they are */
  constructor(vni: Vni, routes: readonly Route[]) {
    const ofFamily = (v4: boolean): Route[] => routes.filter(({ prefix }) => isIp4(prefix.ip) === v4);
    this.#ip4 = new Family(routeObject(vni, { ip: parseIp('0.0.0.0'), length: 0 }), vni, ofFamily(true));
    this.#ip6 = new Family(routeObject(vni, { ip: parseIp('::'), length: 0 }), vni, ofFamily(false));
  }

  /** The route with the longest prefix that covers `ip`, 16 bytes. */
  lookup(ip: Uint8Array): FoundRoute {
    return (isIp4(ip) ? this.#ip4 : this.#ip6).lookup(ip);
  }

  /** The objects of lookups in this table whose result may differ when `next` replaces it. */
  changesTo(next: RouteTable): string[] {
    return [...this.#ip4.changesTo(next.#ip4), ...this.#ip6.changesTo(next.#ip6)];
  }
}

/** The routes of one address family. */
class Family {
  /** The longest prefixes come first. */
  readonly #levels: readonly Level[];
  readonly #none: FoundRoute;

  /** @param defaultObject the object of the default route, which a lookup consults when it finds nothing */
  constructor(defaultObject: string, vni: Vni, routes: readonly Route[]) {
    this.#levels = levels(vni, routes);
    this.#none = { route: undefined, object: defaultObject };
  }

  /** @param bits the longest prefix length to look at */
  lookup(ip: Uint8Array, bits = 128): FoundRoute {
    for (const level of this.#levels) {
      if (level.bits > bits) continue;
      const found = level.routes.get(prefixId(ip, level.bits));
      if (found) return found;
    }
    return this.#none;
  }

  changesTo(next: Family): string[] {
    const changed: string[] = [];
    for (const { bits, routes } of this.#levels) {
      for (const [id, { route, object }] of routes) {
        const then = next.#find(bits, id);
        if (!then || !sameRoute(route!, then.route!)) changed.push(object);
      }
    }
    for (const { bits, routes } of next.#levels) {
      for (const [id, { route }] of routes) {
        if (!this.#find(bits, id)) changed.push(this.lookup(route!.prefix.ip, bits).object);
      }
    }
    return changed;
  }

  #find(bits: number, id: string): FoundRoute | undefined {
    return this.#levels.find((level) => level.bits === bits)?.routes.get(id);
  }
}

interface Level {
  /** The prefix length, out of 128 bits. */
  readonly bits: number;
  readonly routes: ReadonlyMap<string, FoundRoute>;
}

function levels(vni: Vni, routes: readonly Route[]): Level[] {
  const byBits = new Map<number, Map<string, FoundRoute>>();
  for (const route of routes) {
    const { ip, length } = route.prefix;
    const bits = isIp4(ip) ? 96 + length : length;
    const level = byBits.get(bits) ?? new Map<string, FoundRoute>();
    byBits.set(bits, level);
    const id = prefixId(ip, bits);
    if (!level.has(id)) level.set(id, { route, object: routeObject(vni, { ip: truncate(ip, bits), length }) });
  }
  return [...byBits].sort(([a], [b]) => b - a).map(([bits, routes]) => ({ bits, routes }));
}

/** True if two routes for the same prefix lead to the same place and read the same. */
function sameRoute(a: Route, b: Route): boolean {
  return sameBytes(a.prefix.ip, b.prefix.ip) && sameTarget(a, b);
}

function sameTarget(a: RouteTarget, b: RouteTarget): boolean {
  switch (a.kind) {
    case 'network':
      return b.kind === 'network' && a.network === b.network;
    case 'via':
      return (
        b.kind === 'via' &&
        a.network === b.network &&
        a.hops.length === b.hops.length &&
        a.hops.every((hop, i) => sameBytes(hop, b.hops[i]!))
      );
    case 'outside':
    case 'blackhole':
    case 'unreachable':
    case 'prohibit':
      return a.kind === b.kind;
    default:
      return a satisfies never;
  }
}

/** The first `bits` of an address, followed by zeros; written to `to`. */
function truncate(ip: Uint8Array, bits: number, to = new Uint8Array(ip.length)): Uint8Array {
  for (let i = 0; i < ip.length; i++) to[i] = ip[i]! & (0xff00 >> Math.min(8, Math.max(0, bits - 8 * i)));
  return to;
}

const scratch = new Uint8Array(16);

/** A string that is the same for addresses with the same first `bits`. */
function prefixId(ip: Uint8Array, bits: number): string {
  return bytesId(truncate(ip, bits, scratch));
}

/** True if the address is one of the prefix. */
export function isInPrefix({ ip, length }: Prefix, address: Uint8Array): boolean {
  if (isIp4(ip) !== isIp4(address)) return false;
  const bits = isIp4(ip) ? 96 + length : length;
  return sameBytes(truncate(ip, bits), truncate(address, bits));
}

export function formatPrefix({ ip, length }: Prefix): string {
  return `${formatIp(ip)}/${length}`;
}

/** The object of a route, whether it is present or absent. */
function routeObject(vni: Vni, prefix: Prefix): string {
  return `route/${vni}/${formatPrefix(prefix)}`;
}
