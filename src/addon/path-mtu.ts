/** The MTUs towards other hosts: according to interfaces, and as the kernel believes. */
import { loadAddon } from './addon.ts';

const ADDRESS_BYTES = 16;

export interface PathMtu {
  /**
   * According to the interface, or to the route if an administrator gave it an MTU, in bytes of an IP packet. ICMP errors, which
   * anybody can forge, are ignored.
   */
  readonly routeBytes: number;
  /** As the kernel believes: less if an ICMP error said so. */
  readonly believedBytes: number;
}

/**
 * Asks the kernel, some microseconds for each host.
 * @param local 16 bytes, like each of `remotes`: IPv4-mapped or IPv6
 * @returns one for each of `remotes`, in their order; undefined without a route
 */
export function pathMtus(local: Uint8Array, remotes: readonly Uint8Array[]): (PathMtu | undefined)[] {
  const all = new Uint8Array(ADDRESS_BYTES * remotes.length);
  for (const [i, remote] of remotes.entries()) all.set(remote, ADDRESS_BYTES * i);
  const mtus = loadAddon().pathMtus(local, all);
  return remotes.map((_, i) => {
    const [routeBytes, believedBytes] = [mtus[2 * i]!, mtus[2 * i + 1]!];
    if (routeBytes < 0) return undefined;
    return { routeBytes, believedBytes: believedBytes < 0 ? routeBytes : Math.min(routeBytes, believedBytes) };
  });
}
