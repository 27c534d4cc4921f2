/**
 * Neighbors: the MAC address of every IP address that weft knows, by network.
 *
 * Static ones are the endpoints' and the gateways': what ARP and neighbor
 * solicitations are answered from. Learned ones are what routing found out about
 * other hosts' containers: they age, and are asked again while they are in use.
 * An address for which nobody answered is remembered as that for a short while.
 *
 * Bounded: a network learns `quota` neighbors at most, then the oldest goes.
 * Methods that change an entry return the names of what changed.
 */
import { bytesId } from '../flow/key.ts';
import { formatIp, sameBytes, type Vni } from '../flow/types.ts';

export interface NeighborOptions {
  /** Learned neighbors that one network may hold, failed ones included. */
  readonly quota: number;
}

/** A learned neighbor is asked again after this, and forgotten after twice as long without an answer. */
export const NEIGHBOR_REFRESH_MS = 30_000;
/** Of that, how long it is asked by itself before everyone is (RFC 1122 §2.3.2.1, RFC 4861 §7.3.3). */
const UNICAST_MS = 3_000;
/** How long nobody's address is not asked for again. */
const FAILED_MS = 3_000;

interface Learned {
  readonly vni: Vni;
  readonly ip: Uint8Array;
  /** Undefined: nobody answered. */
  readonly mac: Uint8Array | undefined;
  readonly sinceMs: number;
}

export class NeighborTable {
  readonly #quota: number;
  readonly #static = new Map<string, Uint8Array>();
  /** The longest known first. */
  readonly #learned = new Map<string, Learned>();
  readonly #counts = new Map<Vni, number>();

  constructor({ quota }: NeighborOptions) {
    this.#quota = quota;
  }

  /** The MAC of an endpoint or gateway. @param ip 16 bytes, IPv4-mapped or IPv6. */
  lookup(vni: Vni, ip: Uint8Array): Uint8Array | undefined {
    return this.#static.get(entryId(vni, ip));
  }

  /** What is known of any address: `failed` when nobody answered lately, undefined when nobody was asked. */
  resolve(vni: Vni, ip: Uint8Array): Uint8Array | 'failed' | undefined {
    const id = entryId(vni, ip);
    const learned = this.#learned.get(id);
    return this.#static.get(id) ?? (learned && (learned.mac ?? 'failed'));
  }

  set(vni: Vni, ip: Uint8Array, mac: Uint8Array): readonly string[] {
    this.#static.set(entryId(vni, ip), mac.slice());
    return [neighborObject(vni, ip)];
  }

  remove(vni: Vni, ip: Uint8Array): readonly string[] {
    return this.#static.delete(entryId(vni, ip)) ? [neighborObject(vni, ip)] : [];
  }

  /** An answer came, or `mac` is undefined: none did. Static entries stay what they are. */
  learn(vni: Vni, ip: Uint8Array, mac: Uint8Array | undefined, nowMs: number): readonly string[] {
    const id = entryId(vni, ip);
    const known = this.#learned.get(id);
    const changed = this.#forget(id);
    if (!known && (this.#counts.get(vni) ?? 0) >= this.#quota) changed.push(...this.#forgetOldest(vni));
    this.#learned.set(id, { vni, ip: ip.slice(), mac: mac?.slice(), sinceMs: nowMs });
    this.#counts.set(vni, (this.#counts.get(vni) ?? 0) + 1);
    const isSame = known && (known.mac && mac ? sameBytes(known.mac, mac) : known.mac === mac);
    return isSame
      ? changed.filter((object) => object !== neighborObject(vni, ip))
      : [...changed, neighborObject(vni, ip)];
  }

  /** Forgets what is too old. */
  expire(nowMs: number): string[] {
    const changed: string[] = [];
    for (const [id, { mac, sinceMs }] of this.#learned) {
      if (nowMs - sinceMs >= (mac ? 2 * NEIGHBOR_REFRESH_MS : FAILED_MS)) changed.push(...this.#forget(id));
    }
    return changed;
  }

  /** Learned neighbors that are due to be asked again: with their MAC to be asked by itself, without it everyone. */
  due(nowMs: number): { readonly vni: Vni; readonly ip: Uint8Array; readonly mac: Uint8Array | undefined }[] {
    return [...this.#learned.values()]
      .filter(({ mac, sinceMs }) => mac && nowMs - sinceMs >= NEIGHBOR_REFRESH_MS)
      .map(({ vni, ip, mac, sinceMs }) => ({
        vni,
        ip,
        mac: nowMs - sinceMs < NEIGHBOR_REFRESH_MS + UNICAST_MS ? mac : undefined,
      }));
  }

  #forget(id: string): string[] {
    const entry = this.#learned.get(id);
    if (!entry) return [];
    this.#learned.delete(id);
    this.#counts.set(entry.vni, this.#counts.get(entry.vni)! - 1);
    return [neighborObject(entry.vni, entry.ip)];
  }

  #forgetOldest(vni: Vni): string[] {
    for (const [id, entry] of this.#learned) if (entry.vni === vni) return this.#forget(id);
    return [];
  }
}

export function neighborObject(vni: Vni, ip: Uint8Array): string {
  return `neighbor/${vni}/${formatIp(ip)}`;
}

function entryId(vni: Vni, ip: Uint8Array): string {
  return `${vni}/${bytesId(ip)}`;
}
