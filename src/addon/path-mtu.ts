/** The MTU towards another host: according to the interface, and as the kernel believes. */
import { loadAddon } from './addon.ts';

/**
 * The largest IP packet from `local` to `remote` as the kernel believes, in bytes: less than the
 * interface's MTU if an ICMP error said so. Undefined without a route.
 * @param local 16 bytes, like `remote`: IPv4-mapped or IPv6
 */
export function pathMtu(local: Uint8Array, remote: Uint8Array): number | undefined {
  const result = loadAddon().pathMtu(local, remote);
  return result < 0 ? undefined : result;
}

/**
 * The same according to the interface, or to the route if an administrator gave it an MTU. ICMP
 * errors, which anybody can forge, are ignored.
 */
export function routeMtu(local: Uint8Array, remote: Uint8Array): number | undefined {
  const result = loadAddon().routeMtu(local, remote);
  return result < 0 ? undefined : result;
}
