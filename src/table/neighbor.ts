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
 *
 * Each address is an object (`neighborObject`), known or not. It changes where a
 * decision can see that: its MAC, that it has failed, whether it is asked for at all.
 */
import { bytesId } from '../flow/key.ts';
import { formatIp, sameBytes, type Vni } from '../flow/types.ts';
import type { Changes } from './changes.ts';

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
  readonly #changes: Changes;
  readonly #static = new Map<string, Uint8Array>();
  /** The longest unchanged first. */
  readonly #learned = new Map<string, Learned>();
  readonly #counts = new Map<Vni, number>();

  constructor({ quota }: NeighborOptions, changes: Changes) {
    this.#quota = quota;
    this.#changes = changes;
  }

  /** The MAC of an endpoint or gateway. @param ip 16 bytes, IPv4-mapped or IPv6. */
  lookup(vni: Vni, ip: Uint8Array): Uint8Array | undefined {
    return this.#static.get(entryId(vni, ip));
  }

  /** What is known of any address: `failed` when nobody answered lately, undefined when it is to be asked for. */
  resolve(vni: Vni, ip: Uint8Array): Uint8Array | 'failed' | undefined {
    const id = entryId(vni, ip);
    const learned = this.#learned.get(id);
    return this.#static.get(id) ?? (learned && answerOf(learned));
  }

  /** Has somebody here asked for it, so that who says that he has it is heard? */
  isWanted(vni: Vni, ip: Uint8Array): boolean {
    const id = entryId(vni, ip);
    return this.#learned.has(id) && !this.#static.has(id);
  }

  set(vni: Vni, ip: Uint8Array, mac: Uint8Array): void {
    const id = entryId(vni, ip);
    const known = this.#static.get(id);
    if (known && sameBytes(known, mac)) return;
    this.#static.set(id, mac.slice());
    this.#changes.changed(neighborObject(vni, ip));
  }

  remove(vni: Vni, ip: Uint8Array): void {
    if (this.#static.delete(entryId(vni, ip))) this.#changes.changed(neighborObject(vni, ip));
  }

  /** It is being asked for. */
  ask(vni: Vni, ip: Uint8Array, nowMs: number): void {
    const known = this.#learned.get(entryId(vni, ip));
    if (known?.state !== 'asked') this.#replace(vni, ip, 'asked', undefined, nowMs, known?.failures ?? 0);
  }

  /** Somebody has said that he has it. Static entries stay what they are. */
  learn(vni: Vni, ip: Uint8Array, mac: Uint8Array, nowMs: number): void {
    this.#replace(vni, ip, 'known', mac.slice(), nowMs, 0);
  }

  /** Nobody has answered. */
  fail(vni: Vni, ip: Uint8Array, nowMs: number): void {
    const failures = (this.#learned.get(entryId(vni, ip))?.failures ?? 0) + 1;
    this.#replace(vni, ip, 'failed', undefined, nowMs, failures);
  }

  /** Whoever has failed to answer for it may be there now. */
  retry(vni: Vni, ip: Uint8Array): void {
    const known = this.#learned.get(entryId(vni, ip));
    if (known?.state === 'failed') this.#forget(known);
  }

  /** Whoever had this MAC has gone. */
  forgetMac(vni: Vni, mac: Uint8Array): void {
    const gone = [...this.#learned.values()].filter((one) => one.vni === vni && one.mac && sameBytes(one.mac, mac));
    for (const one of gone) this.#forget(one);
  }

  /** Forgets what is too old; what has failed is to be asked for again when its time is over. */
  expire(nowMs: number): void {
    for (const one of [...this.#learned.values()]) {
      const { vni, ip, state, sinceMs, failures } = one;
      const ageMs = nowMs - sinceMs;
      if (ageMs >= 2 * NEIGHBOR_REFRESH_MS) this.#forget(one);
      else if (state === 'failed' && ageMs >= failedMs(failures)) {
        this.#replace(vni, ip, 'due', undefined, nowMs, failures);
      }
    }
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
  ): void {
    const entry: Learned = { vni, ip: ip.slice(), mac, state, sinceMs, asked: 0, failures };
    const id = entryId(vni, ip);
    const known = this.#learned.get(id);
    if (known) this.#remove(known);
    else if ((this.#counts.get(vni) ?? 0) >= this.#quota) this.#makeRoom(vni);
    this.#learned.set(id, entry);
    this.#counts.set(vni, (this.#counts.get(vni) ?? 0) + 1);
    if (!known || !sameAnswer(answerOf(known), answerOf(entry))) this.#changes.changed(neighborObject(vni, ip));
  }

  #forget(entry: Learned): void {
    this.#remove(entry);
    this.#changes.changed(neighborObject(entry.vni, entry.ip));
  }

  #remove({ vni, ip }: Learned): void {
    this.#learned.delete(entryId(vni, ip));
    this.#counts.set(vni, this.#counts.get(vni)! - 1);
  }

  /** The oldest of the first kind of which there is one. */
  #makeRoom(vni: Vni): void {
    let [known, asked]: [Learned?, Learned?] = [];
    for (const entry of this.#learned.values()) {
      if (entry.vni !== vni) continue;
      if (entry.state === 'failed' || entry.state === 'due') return this.#forget(entry);
      if (entry.state === 'known') known ??= entry;
      else asked ??= entry;
    }
    if (known) return this.#forget(known);
    // No decision changes by that: whoever waits for it goes on waiting, and is told if nobody answers.
    if (asked) this.#remove(asked);
  }
}

/** What a decision gets to know of it. */
function answerOf({ state, mac }: Learned): Uint8Array | 'failed' | undefined {
  return state === 'failed' ? 'failed' : mac;
}

function sameAnswer(a: Uint8Array | 'failed' | undefined, b: Uint8Array | 'failed' | undefined): boolean {
  return a instanceof Uint8Array && b instanceof Uint8Array ? sameBytes(a, b) : a === b;
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
