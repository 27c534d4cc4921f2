/**
 * Connections of the host that the switch runs on (nf_conntrack). The kernel asks for a translation with the first
 * packet of a connection, and one of UDP lasts as long as it makes no pause: what was sent before its port was
 * published would never get through, and what was published once would be for ever.
 */
import { WeftError } from '../error.ts';
import { loadAddon } from './binding.ts';
import { errnoName } from './io-error.ts';

export interface Publishing {
  /** Addresses of this host, 16 bytes each. */
  readonly own: readonly Uint8Array[];
  /** What published ports are translated to. */
  readonly targets: readonly Uint8Array[];
  /** Published ports of UDP. */
  readonly ports: readonly number[];
}

/**
 * Forgets those of UDP that are to a published port of the host and not translated, and those that are translated to
 * a target and come to a port that is not published: their next packet is the first of another. In the network
 * namespace of this process. @throws WeftError('system')
 */
export async function forgetStaleUdp({ own, targets, ports }: Publishing): Promise<void> {
  const result = await loadAddon().forgetStaleUdp(Buffer.concat(own), Buffer.concat(targets), Uint16Array.from(ports));
  if (result >= 0) return;
  throw new WeftError('system', `connections of the host could not be forgotten (${errnoName(-result)})`);
}
