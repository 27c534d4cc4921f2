/** The path MTU to another host, as the kernel knows it: of the interface, or less where the path has said so. */
import { loadAddon } from './binding.ts';

/**
 * The largest IP packet from `local` to `remote`, in bytes; undefined without a route.
 * @param local 16 bytes, as `remote`: IPv4-mapped or IPv6
 */
export function pathMtu(local: Uint8Array, remote: Uint8Array): number | undefined {
  const result = loadAddon().pathMtu(local, remote);
  return result < 0 ? undefined : result;
}
