/**
 * The forwarding database: the port or VTEP behind which a MAC address is, for each network.
 *
 * Static entries come from endpoints that weft knows, and are never displaced. Learned entries
 * belong to their owner, the trusted port or VTEP behind which they were learned. Each owner has a
 * quota. When it is used up, the owner's own least recently used entry is removed, so a MAC flood
 * takes nothing away from others. An entry that appears behind another owner moves there at once.
 *
 * Each entry is an object (`fdbObject`), whether or not it exists, and changes are noted in the
 * transaction (`changes.ts`). The table is owned by the thread of the switch, and the caller supplies
 * the time.
 */
import { formatIp, formatMac, sameBytes, type PortNo, type Vni } from '../flow/types.ts';
import type { Changes } from './changes.ts';
import type { Workload } from './workload.ts';

export type Location =
  | { readonly kind: 'port'; readonly port: PortNo }
  /** 16 bytes, IPv4-mapped or IPv6. */
  | { readonly kind: 'vtep'; readonly vtep: Uint8Array };

export interface FdbEntry {
  readonly vni: Vni;
  readonly mac: Uint8Array;
  readonly where: Location;
  readonly isStatic: boolean;
  /** The endpoint of another host that has it. */
  readonly workload: Workload | undefined;
  /** The name under which a decision consults it: `fdbObject`. */
  readonly object: string;
}

/** Small, because there is one for each endpoint of all hosts: the network and the MAC are read from its id. */
class StaticEntry implements FdbEntry {
  readonly isStatic = true;
  readonly where: Location;
  readonly workload: Workload | undefined;
  readonly #id: string;

  constructor(id: string, where: Location, workload: Workload | undefined) {
    this.#id = id;
    this.where = where;
    this.workload = workload;
  }

  get vni(): Vni {
    return vniOf(this.#id);
  }

  get mac(): Uint8Array {
    return macOf(this.#id);
  }

  get object(): string {
    return fdbObject(this.vni, this.mac);
  }
}

interface Learned extends FdbEntry {
  readonly owner: string;
  lastSeenMs: number;
}

export interface FdbOptions {
  /** How many learned entries one port or VTEP may have. */
  readonly quota: number;
  /** A learned entry is removed when it has not been used for this many milliseconds. */
  readonly ageingMs: number;
}

export class Fdb {
  readonly #options: FdbOptions;
  readonly #changes: Changes;
  readonly #static = new Map<string, StaticEntry>();
  readonly #learned = new Map<string, Learned>();
  /** By owner, least recently used first. */
  readonly #byOwner = new Map<string, Map<string, Learned>>();
  #evicted = 0;
  #moves = 0;

  constructor(options: FdbOptions, changes: Changes) {
    this.#options = options;
    this.#changes = changes;
  }

  lookup(vni: Vni, mac: Uint8Array): FdbEntry | undefined {
    const id = entryId(vni, mac);
    return this.#static.get(id) ?? this.#learned.get(id);
  }

  /** True if `mac` is static, or already learned behind `where`. */
  isKnownAt(vni: Vni, mac: Uint8Array, where: Location): boolean {
    const entry = this.lookup(vni, mac);
    return entry !== undefined && (entry.isStatic || sameLocation(entry.where, where));
  }

  /** Notes that `mac` was seen behind `where`. */
  learn(vni: Vni, mac: Uint8Array, where: Location, nowMs: number): void {
    const id = entryId(vni, mac);
    if (this.#static.has(id)) return;
    const known = this.#learned.get(id);
    if (known && sameLocation(known.where, where)) {
      known.lastSeenMs = Math.max(known.lastSeenMs, nowMs);
      const entries = this.#byOwner.get(known.owner)!;
      entries.delete(id);
      entries.set(id, known);
      return;
    }
    if (known) {
      this.#remove(id, known);
      this.#moves++;
    }
    const owner = ownerOf(where);
    let entries = this.#byOwner.get(owner);
    if (!entries) this.#byOwner.set(owner, (entries = new Map()));
    if (entries.size >= this.#options.quota) {
      const [oldestId, oldest] = entries.entries().next().value!;
      this.#remove(oldestId, oldest);
      this.#evicted++;
      this.#changes.changed(oldest.object);
      if (entries.size === 0) this.#byOwner.set(owner, entries);
    }
    const object = known?.object ?? fdbObject(vni, mac);
    const learned = { vni, mac: mac.slice(), where, isStatic: false, workload: undefined, object };
    const entry: Learned = { ...learned, owner, lastSeenMs: nowMs };
    this.#learned.set(id, entry);
    entries.set(id, entry);
    this.#changes.changed(object);
  }

  /** Binds a MAC permanently, and removes a learned entry for it. */
  setStatic(vni: Vni, mac: Uint8Array, where: Location, workload?: Workload): void {
    const id = entryId(vni, mac);
    const known = this.#static.get(id);
    if (known && known.workload === workload && sameLocation(known.where, where)) return;
    const learned = this.#learned.get(id);
    if (learned) this.#remove(id, learned);
    this.#static.set(id, new StaticEntry(id, where, workload));
    this.#changes.changed(fdbObject(vni, mac));
  }

  /** The endpoint of another host that has this MAC. */
  workload(vni: Vni, mac: Uint8Array): Workload | undefined {
    return this.#static.get(entryId(vni, mac))?.workload;
  }

  removeStatic(vni: Vni, mac: Uint8Array): void {
    if (this.#static.delete(entryId(vni, mac))) this.#changes.changed(fdbObject(vni, mac));
  }

  /** Forgets everything learned behind a port or VTEP that is gone. */
  forget(where: Location): void {
    for (const [id, entry] of [...(this.#byOwner.get(ownerOf(where)) ?? [])]) {
      this.#remove(id, entry);
      this.#changes.changed(entry.object);
    }
  }

  /** Removes learned entries that have not been seen for the ageing time. */
  expire(nowMs: number): void {
    for (const entries of [...this.#byOwner.values()]) {
      for (const [id, entry] of entries) {
        if (nowMs - entry.lastSeenMs < this.#options.ageingMs) break;
        this.#remove(id, entry);
        this.#changes.changed(entry.object);
      }
    }
  }

  *entries(): IterableIterator<FdbEntry> {
    yield* this.#static.values();
    yield* this.#learned.values();
  }

  /** Learned entries by owner, entries displaced by a quota, and moves between owners. */
  statistics(): { entries: number; learned: ReadonlyMap<string, number>; evicted: number; moves: number } {
    const learned = new Map([...this.#byOwner].map(([owner, entries]) => [owner, entries.size]));
    return {
      entries: this.#static.size + this.#learned.size,
      learned,
      evicted: this.#evicted,
      moves: this.#moves,
    };
  }

  #remove(id: string, entry: Learned): void {
    this.#learned.delete(id);
    const entries = this.#byOwner.get(entry.owner);
    entries?.delete(id);
    if (entries?.size === 0) this.#byOwner.delete(entry.owner);
  }
}

/** The name under which a decision consults an entry, whether it is present (`FdbEntry.object`) or absent. */
export function fdbObject(vni: Vni, mac: Uint8Array): string {
  return `fdb/${vni}/${formatMac(mac)}`;
}

/** `port/3` or `vtep/192.0.2.1`. */
export function ownerOf(where: Location): string {
  return where.kind === 'port' ? `port/${where.port}` : `vtep/${formatIp(where.vtep)}`;
}

const places = new WeakMap<Uint8Array, Location>();

/** One object for each array, which must not change any more. */
export function vtepLocation(vtep: Uint8Array): Location {
  let place = places.get(vtep);
  if (!place) places.set(vtep, (place = { kind: 'vtep', vtep }));
  return place;
}

export function sameLocation(a: Location, b: Location): boolean {
  if (a.kind === 'port') return b.kind === 'port' && a.port === b.port;
  return b.kind === 'vtep' && sameBytes(a.vtep, b.vtep);
}

/** The VNI and the MAC address as characters of 16 bits each. */
function entryId(vni: Vni, mac: Uint8Array): string {
  return String.fromCharCode(vni >>> 16, vni & 0xffff, word(mac, 0), word(mac, 2), word(mac, 4));
}

function vniOf(id: string): Vni {
  return ((id.charCodeAt(0) << 16) | id.charCodeAt(1)) as Vni;
}

function macOf(id: string): Uint8Array {
  const [a, b, c] = [id.charCodeAt(2), id.charCodeAt(3), id.charCodeAt(4)];
  return Uint8Array.of(a >>> 8, a, b >>> 8, b, c >>> 8, c);
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}
