/**
 * Neighbors: the MAC address of every IP address that weft knows, by network.
 *
 * Static ones are the endpoints' and the gateways': what ARP and neighbor
 * solicitations are answered from. All others are asked for where a routed packet
 * needs them: other hosts' containers, and addresses that a local one may carry
 * besides its own. What is known of those is remembered here from the first
 * question on:
 *
 *   asked ──► known ──(asked again while in use, no answer)──► failed ──► due ──► asked …
 *     └────────────────────(no answer)────────────────────────────┘
 *
 * Only what somebody here has asked for is learned from an announcement, so nobody
 * can fill the table. A failed one is not asked for again for a while, which doubles
 * each time that nobody answers.
 *
 * Bounded: a network remembers `quota` of them at most, then the oldest goes, first of
 * all of those that nobody has answered for.
 * Methods that change an entry return the names of what changed.
 */
import { bytesId } from '../flow/key.ts';
import { formatIp, sameBytes, type Vni } from '../flow/types.ts';

export interface NeighborOptions {
  /** Neighbors that are not static that one network may hold, failed ones included. */
  readonly quota: number;
}

/** A learned neighbor in use is asked again after this; one that is not in use is forgotten after twice as long. */
export const NEIGHBOR_REFRESH_MS = 30_000;
/** How often it is asked by itself, and then everyone (RFC 1122 §2.3.2.1, RFC 4861 §7.3.3), a second apart. */
const UNICAST_ASKED = 3;
const MULTICAST_ASKED = 3;
/** How long an address for which nobody has answered is not asked for again: the first time, and at most. */
const FAILED_MS = { first: 3_000, most: 24_000 };

interface Learned {
  readonly vni: Vni;
  readonly ip: Uint8Array;
  readonly mac: Uint8Array | undefined;
  /** `due`: it failed some time ago, and whoever needs it may ask again. */
  readonly state: 'asked' | 'known' | 'failed' | 'due';
  readonly sinceMs: number;
  /** Of a known one: requests since it is due. */
  asked: number;
  /** How often in a row nobody has answered. */
  readonly failures: number;
}

/** A neighbor that is due to be asked again: with its MAC to be asked by itself, without it everyone. */
export interface DueNeighbor {
  readonly vni: Vni;
  readonly ip: Uint8Array;
  readonly mac: Uint8Array | undefined;
}

export class NeighborTable {
  readonly #quota: number;
  readonly #static = new Map<string, Uint8Array>();
  /** The longest unchanged first. */
  readonly #learned = new Map<string, Learned>();
  readonly #counts = new Map<Vni, number>();

  constructor({ quota }: NeighborOptions) {
    this.#quota = quota;
  }

  /** The MAC of an endpoint or gateway. @param ip 16 bytes, IPv4-mapped or IPv6. */
  lookup(vni: Vni, ip: Uint8Array): Uint8Array | undefined {
    return this.#static.get(entryId(vni, ip));
  }

  /** What is known of any address: `failed` when nobody answered lately, undefined when it is to be asked for. */
  resolve(vni: Vni, ip: Uint8Array): Uint8Array | 'failed' | undefined {
    const id = entryId(vni, ip);
    const learned = this.#learned.get(id);
    return this.#static.get(id) ?? (learned?.state === 'failed' ? 'failed' : learned?.mac);
  }

  /** Has somebody here asked for it, so that who says that he has it is heard? */
  isWanted(vni: Vni, ip: Uint8Array): boolean {
    const id = entryId(vni, ip);
    return this.#learned.has(id) && !this.#static.has(id);
  }

  set(vni: Vni, ip: Uint8Array, mac: Uint8Array): readonly string[] {
    this.#static.set(entryId(vni, ip), mac.slice());
    return [neighborObject(vni, ip)];
  }

  remove(vni: Vni, ip: Uint8Array): readonly string[] {
    return this.#static.delete(entryId(vni, ip)) ? [neighborObject(vni, ip)] : [];
  }

  /** It is being asked for. */
  ask(vni: Vni, ip: Uint8Array, nowMs: number): readonly string[] {
    const known = this.#learned.get(entryId(vni, ip));
    return known?.state === 'asked' ? [] : this.#replace(vni, ip, 'asked', undefined, nowMs, known?.failures ?? 0);
  }

  /** Somebody has said that he has it. Static entries stay what they are. */
  learn(vni: Vni, ip: Uint8Array, mac: Uint8Array, nowMs: number): readonly string[] {
    const known = this.#learned.get(entryId(vni, ip));
    const changed = this.#replace(vni, ip, 'known', mac.slice(), nowMs, 0);
    const isSame = known?.mac && sameBytes(known.mac, mac);
    return isSame ? changed.filter((object) => object !== neighborObject(vni, ip)) : changed;
  }

  /** Nobody has answered. */
  fail(vni: Vni, ip: Uint8Array, nowMs: number): readonly string[] {
    const failures = (this.#learned.get(entryId(vni, ip))?.failures ?? 0) + 1;
    return this.#replace(vni, ip, 'failed', undefined, nowMs, failures);
  }

  /** Whoever has failed to answer for it may be there now. */
  retry(vni: Vni, ip: Uint8Array): readonly string[] {
    const id = entryId(vni, ip);
    return this.#learned.get(id)?.state === 'failed' ? this.#forget(id) : [];
  }

  /** Whoever had this MAC has gone. */
  forgetMac(vni: Vni, mac: Uint8Array): string[] {
    const gone = [...this.#learned].filter(([, one]) => one.vni === vni && one.mac && sameBytes(one.mac, mac));
    return gone.flatMap(([id]) => this.#forget(id));
  }

  /** Forgets what is too old; what has failed is to be asked for again when its time is over. */
  expire(nowMs: number): string[] {
    const changed: string[] = [];
    for (const [id, { vni, ip, state, sinceMs, failures }] of [...this.#learned]) {
      const ageMs = nowMs - sinceMs;
      if (ageMs >= 2 * NEIGHBOR_REFRESH_MS) changed.push(...this.#forget(id));
      else if (state === 'failed' && ageMs >= failedMs(failures)) {
        changed.push(...this.#replace(vni, ip, 'due', undefined, nowMs, failures));
      }
    }
    return changed;
  }

  /**
   * To be called about once a second: known neighbors that are to be asked again, of
   * those in use, and those that have not answered though everyone was asked.
   */
  takeDue(nowMs: number, isUsed: (object: string) => boolean): { ask: DueNeighbor[]; unanswered: DueNeighbor[] } {
    const ask: DueNeighbor[] = [];
    const unanswered: DueNeighbor[] = [];
    for (const entry of this.#learned.values()) {
      const { vni, ip, mac, sinceMs } = entry;
      if (!mac || nowMs - sinceMs < NEIGHBOR_REFRESH_MS || !isUsed(neighborObject(vni, ip))) continue;
      if (entry.asked === UNICAST_ASKED + MULTICAST_ASKED) unanswered.push({ vni, ip, mac });
      else ask.push({ vni, ip, mac: entry.asked++ < UNICAST_ASKED ? mac : undefined });
    }
    return { ask, unanswered };
  }

  #replace(
    vni: Vni,
    ip: Uint8Array,
    state: Learned['state'],
    mac: Uint8Array | undefined,
    sinceMs: number,
    failures: number,
  ): string[] {
    const id = entryId(vni, ip);
    const changed = this.#forget(id);
    if (changed.length === 0) {
      if ((this.#counts.get(vni) ?? 0) >= this.#quota) changed.push(...this.#makeRoom(vni));
      changed.push(neighborObject(vni, ip));
    }
    this.#learned.set(id, { vni, ip: ip.slice(), mac, state, sinceMs, asked: 0, failures });
    this.#counts.set(vni, (this.#counts.get(vni) ?? 0) + 1);
    return changed;
  }

  #forget(id: string): string[] {
    const entry = this.#learned.get(id);
    if (!entry) return [];
    this.#learned.delete(id);
    this.#counts.set(entry.vni, this.#counts.get(entry.vni)! - 1);
    return [neighborObject(entry.vni, entry.ip)];
  }

  /** The oldest of the first kind of which there is one. */
  #makeRoom(vni: Vni): string[] {
    let [known, asked]: [string?, string?] = [];
    for (const [id, entry] of this.#learned) {
      if (entry.vni !== vni) continue;
      if (entry.state === 'failed' || entry.state === 'due') return this.#forget(id);
      if (entry.state === 'known') known ??= id;
      else asked ??= id;
    }
    if (known !== undefined) return this.#forget(known);
    // No decision changes by that: whoever waits for it goes on waiting, and is told if nobody answers.
    if (asked !== undefined) this.#forget(asked);
    return [];
  }
}

function failedMs(failures: number): number {
  return Math.min(FAILED_MS.first * 2 ** (failures - 1), FAILED_MS.most);
}

export function neighborObject(vni: Vni, ip: Uint8Array): string {
  return `neighbor/${vni}/${formatIp(ip)}`;
}

function entryId(vni: Vni, ip: Uint8Array): string {
  return `${vni}/${bytesId(ip)}`;
}
