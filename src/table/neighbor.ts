/**
 * Neighbors: the MAC address of every IP address that weft knows, by network.
 *
 * The static ones are those of endpoints and gateways. ARP requests and neighbor solicitations are
 * answered from them. All others are resolved when a routed packet needs them: containers of other
 * hosts, and further addresses that a local container carries. Their state is remembered here from
 * the first request on:
 *
 *   asked ──► known ──(asked again while in use, no answer)──► failed ──► due ──► asked …
 *     └────────────────────(no answer)────────────────────────────┘
 *
 * An announcement is believed only for an address that this host has asked for, so nobody can fill
 * the table. A failed address is not asked for again for a while, and that time doubles with each
 * failure.
 *
 * A network remembers at most `quota` of them. Beyond that, the oldest is removed, preferably one
 * that nobody has answered for.
 *
 * Each address is an object (`neighborObject`), whether or not it is known. The object changes
 * whenever a decision can tell the difference: in its MAC, in that it failed, in that it is asked for.
 */
import { addressId, bytesId, bytesOf } from '../flow/key.ts';
import { formatIp, sameBytes, type Vni } from '../flow/types.ts';
import type { Changes } from './changes.ts';

export interface NeighborOptions {
  /** How many neighbors that are not static one network may have, including failed ones. */
  readonly quota: number;
}

/**
 * A learned neighbor in use is asked again after this time. One that is not in use is forgotten after twice this time.
 */
const NEIGHBOR_REFRESH_MS = 30_000;
/** How often it is asked by unicast before everyone is asked (RFC 1122 §2.3.2.1, RFC 4861 §7.3.3), one second apart. */
const UNICAST_ASKED = 3;
const MULTICAST_ASKED = 3;
/** How long an unanswered address is not asked for again: after the first failure, and at most. */
const FAILED_MS = { first: 3_000, most: 24_000 };

interface Learned {
  readonly vni: Vni;
  readonly ip: Uint8Array;
  readonly mac: Uint8Array | undefined;
  /** `due`: it failed some time ago, and may be asked for again when it is needed. */
  readonly state: 'asked' | 'known' | 'failed' | 'due';
  readonly sinceMs: number;
  /** For a known one: the number of requests since it became due. */
  asked: number;
  /** How many times in a row nobody has answered. */
  readonly failures: number;
}

/** A neighbor that must be asked again: by unicast if its MAC is given, otherwise by asking everyone. */
export interface DueNeighbor {
  readonly vni: Vni;
  readonly ip: Uint8Array;
  readonly mac: Uint8Array | undefined;
}

export class NeighborTable {
  readonly #quota: number;
  readonly #changes: Changes;
  /** The bytes of the MAC as `bytesId` has them: an array of so few bytes takes ten times the memory. */
  readonly #static = new Map<string, string>();
  /** Those that have not changed for longest come first. */
  readonly #learned = new Map<string, Learned>();
  readonly #counts = new Map<Vni, number>();

  constructor({ quota }: NeighborOptions, changes: Changes) {
    this.#quota = quota;
    this.#changes = changes;
  }

  /** The MAC of an endpoint or gateway. @param ip 16 bytes, IPv4-mapped or IPv6. */
  lookup(vni: Vni, ip: Uint8Array): Uint8Array | undefined {
    const id = this.#static.get(addressId(vni, ip));
    return id === undefined ? undefined : bytesOf(id);
  }

  /** The MAC of any address; `failed` if nobody answered lately; undefined if it must be asked for. */
  resolve(vni: Vni, ip: Uint8Array): Uint8Array | 'failed' | undefined {
    const id = addressId(vni, ip);
    const learned = this.#learned.get(id);
    const known = this.#static.get(id);
    if (known !== undefined) return bytesOf(known);
    return learned && answerOf(learned);
  }

  /** True if this host has asked for the address, so that an announcement of it is believed. */
  isWanted(vni: Vni, ip: Uint8Array): boolean {
    const id = addressId(vni, ip);
    return this.#learned.has(id) && !this.#static.has(id);
  }

  set(vni: Vni, ip: Uint8Array, mac: Uint8Array): void {
    const id = addressId(vni, ip);
    const macId = bytesId(mac);
    if (this.#static.get(id) === macId) return;
    this.#static.set(id, macId);
    this.#changes.changed(neighborObject(vni, ip));
  }

  /** @param mac if it is given, the entry stays if it has another MAC by now */
  remove(vni: Vni, ip: Uint8Array, mac?: Uint8Array): void {
    const id = addressId(vni, ip);
    if (mac && this.#static.get(id) !== bytesId(mac)) return;
    if (this.#static.delete(id)) this.#changes.changed(neighborObject(vni, ip));
  }

  /** Notes that the address is being asked for. */
  ask(vni: Vni, ip: Uint8Array, nowMs: number): void {
    const known = this.#learned.get(addressId(vni, ip));
    if (known?.state !== 'asked') this.#replace(vni, ip, 'asked', undefined, nowMs, known?.failures ?? 0);
  }

  /** Notes an answer. Static entries stay as they are. */
  learn(vni: Vni, ip: Uint8Array, mac: Uint8Array, nowMs: number): void {
    this.#replace(vni, ip, 'known', mac.slice(), nowMs, 0);
  }

  /** Notes that nobody has answered. */
  fail(vni: Vni, ip: Uint8Array, nowMs: number): void {
    const failures = (this.#learned.get(addressId(vni, ip))?.failures ?? 0) + 1;
    this.#replace(vni, ip, 'failed', undefined, nowMs, failures);
  }

  /** Lets a failed address be asked for again, since its owner may be there now. */
  retry(vni: Vni, ip: Uint8Array): void {
    const known = this.#learned.get(addressId(vni, ip));
    if (known?.state === 'failed') this.#forget(known);
  }

  /** Forgets all addresses of a MAC that is gone. */
  forgetMac(vni: Vni, mac: Uint8Array): void {
    const gone = [...this.#learned.values()].filter((one) => one.vni === vni && one.mac && sameBytes(one.mac, mac));
    for (const one of gone) this.#forget(one);
  }

  /** Forgets entries that are too old, and lets failed ones be asked for again when their time is over. */
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
   * Called about once a second. Returns the known neighbors in use that must be asked again, and those that have not
   * answered although everyone was asked.
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
    const id = addressId(vni, ip);
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
    this.#learned.delete(addressId(vni, ip));
    this.#counts.set(vni, this.#counts.get(vni)! - 1);
  }

  /** Removes the oldest entry of the most dispensable kind that there is. */
  #makeRoom(vni: Vni): void {
    let [known, asked]: [Learned?, Learned?] = [];
    for (const entry of this.#learned.values()) {
      if (entry.vni !== vni) continue;
      if (entry.state === 'failed' || entry.state === 'due') return this.#forget(entry);
      if (entry.state === 'known') known ??= entry;
      else asked ??= entry;
    }
    if (known) return this.#forget(known);
    // This changes no decision: packets that wait for the address go on waiting, and their senders learn if nobody
    // answers.
    if (asked) this.#remove(asked);
  }
}

/** What a decision learns from an entry. */
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
