/** What the way to another host takes: as its interface says, and as the kernel believes. */
import { loadAddon } from './addon.ts';

/**
 * The largest IP packet from `local` to `remote` as the kernel believes, in bytes: less than the
 * interface takes where an ICMP error said so. Undefined without a route.
 * @param local 16 bytes, as `remote`: IPv4-mapped or IPv6
 */
export function pathMtu(local: Uint8Array, remote: Uint8Array): number | undefined {
  const result = loadAddon().pathMtu(local, remote);
  return result < 0 ? undefined : result;
}

/**
 * The same as the interface takes, or the route, where an administrator gave it an MTU: what
 * ICMP errors say, which anybody can forge, is left out.
 */
export function routeMtu(local: Uint8Array, remote: Uint8Array): number | undefined {
  const result = loadAddon().routeMtu(local, remote);
  return result < 0 ? undefined : result;
}
