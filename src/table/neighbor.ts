/**
 * Neighbors: the MAC address of every IP address that weft knows to be an
 * endpoint's, by network. What ARP and neighbor solicitations are answered from.
 * Methods that change an entry return the names of what changed.
 */
import { bytesId } from '../flow/key.ts';
import { formatIp, type Vni } from '../flow/types.ts';

export class NeighborTable {
  readonly #macs = new Map<string, Uint8Array>();

  /** @param ip 16 bytes, IPv4-mapped or IPv6. */
  lookup(vni: Vni, ip: Uint8Array): Uint8Array | undefined {
    return this.#macs.get(entryId(vni, ip));
  }

  set(vni: Vni, ip: Uint8Array, mac: Uint8Array): readonly string[] {
    this.#macs.set(entryId(vni, ip), mac.slice());
    return [neighborObject(vni, ip)];
  }

  remove(vni: Vni, ip: Uint8Array): readonly string[] {
    return this.#macs.delete(entryId(vni, ip)) ? [neighborObject(vni, ip)] : [];
  }
}

export function neighborObject(vni: Vni, ip: Uint8Array): string {
  return `neighbor/${vni}/${formatIp(ip)}`;
}

function entryId(vni: Vni, ip: Uint8Array): string {
  return `${vni}/${bytesId(ip)}`;
}
