/**
 * Routes of one network: longest prefix match over IPv4 and IPv6 prefixes.
 *
 * One exact-match table a prefix length, the longest first: there are few lengths
 * in use, and a change makes a new table. The families never meet: addresses are
 * 16 bytes, but `::/0` does not cover IPv4-mapped ones.
 */
import { bytesId } from '../flow/key.ts';
import { formatIp, isIp4, type Vni } from '../flow/types.ts';

export interface Prefix {
  /** 16 bytes, IPv4-mapped or IPv6; bits behind the length are ignored. */
  readonly ip: Uint8Array;
  /** 0 … 32 for IPv4, 0 … 128 for IPv6. */
  readonly length: number;
}

/** What a route leads to. */
export type RouteTarget =
  /** The destination is in that network itself. */
  | { readonly kind: 'network'; readonly network: string }
  /** One of the next hops, by flow hash; in the network `network`. */
  | { readonly kind: 'via'; readonly network: string; readonly hops: readonly Uint8Array[] }
  /** Out of all networks, with another source address. */
  | { readonly kind: 'outside' }
  /** Dropped; without a word, or with the ICMP error of that name. */
  | { readonly kind: 'blackhole' | 'unreachable' | 'prohibit' };

export type Route = { readonly prefix: Prefix } & RouteTarget;

export class RouteTable {
  readonly #ip4: readonly Level[];
  readonly #ip6: readonly Level[];

  /** Of two routes to one prefix the first counts. */
  constructor(routes: readonly Route[]) {
    this.#ip4 = levels(routes.filter(({ prefix }) => isIp4(prefix.ip)));
    this.#ip6 = levels(routes.filter(({ prefix }) => !isIp4(prefix.ip)));
  }

  /** The route with the longest prefix that covers `ip`, 16 bytes. */
  lookup(ip: Uint8Array): Route | undefined {
    const levels = isIp4(ip) ? this.#ip4 : this.#ip6;
    for (const { bits, routes } of levels) {
      const route = routes.get(bytesId(truncate(ip, bits)));
      if (route) return route;
    }
    return undefined;
  }
}

interface Level {
  /** Of the 128. */
  readonly bits: number;
  readonly routes: ReadonlyMap<string, Route>;
}

function levels(routes: readonly Route[]): Level[] {
  const byBits = new Map<number, Map<string, Route>>();
  for (const route of routes) {
    const { ip, length } = route.prefix;
    const bits = isIp4(ip) ? 96 + length : length;
    const level = byBits.get(bits) ?? new Map<string, Route>();
    byBits.set(bits, level);
    const id = bytesId(truncate(ip, bits));
    if (!level.has(id)) level.set(id, route);
  }
  return [...byBits].sort(([a], [b]) => b - a).map(([bits, routes]) => ({ bits, routes }));
}

/** The first `bits` of an address, zeros behind. */
function truncate(ip: Uint8Array, bits: number): Uint8Array {
  return ip.map((byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, bits - 8 * i))));
}

export function formatPrefix({ ip, length }: Prefix): string {
  return `${formatIp(ip)}/${length}`;
}

/** All routes of a network, as a decision consults them. */
export function routesObject(vni: Vni): string {
  return `routes/${vni}`;
}
