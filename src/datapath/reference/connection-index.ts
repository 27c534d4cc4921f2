/**
 * The index of the reference store of connections: finds a connection by any of its names. A name is a tuple, a place and a
 * protocol, and a record is the only place where it is kept.
 */
import {
  CONNECTION_ORIGINAL,
  CONNECTION_TRANSLATED,
  INTERNAL,
  OUTSIDE,
  recordAt,
  type ConnectionRecords,
  type Place,
  type Tuple,
} from '../../flow/connection.ts';
import { IP_UDP } from '../../wire/ipv4.ts';

const PLACES_PER_RECORD = 4;
const PLACE_COUNTS = 4096;

/** Offsets in a record, in bytes. */
const PROTOCOL = 4;
const PLACES = 8;
const TUPLE_BYTES = 36;
const ADDRESS_BYTES = 16;

/** By what a connection is found: the tuple of either direction, or that with which its packets go on. */
export const [ORIGINAL, REPLY, TAKEN] = [0, 1, 2] as const;
const NAMES = [ORIGINAL, REPLY, TAKEN];

export class ConnectionIndex {
  readonly #records: ConnectionRecords;
  /** Pairs of the hash and 4 · slot + name + 1; 0 means free. */
  readonly #index: Uint32Array;
  /** The key to look for: a tuple, a place and a protocol. */
  readonly #name = new Uint8Array(TUPLE_BYTES + 5);
  readonly #nameView = new DataView(this.#name.buffer);
  /** How many entries have a place; some places share a number. */
  readonly #inPlace = new Uint32Array(PLACE_COUNTS);

  constructor(records: ConnectionRecords) {
    this.#records = records;
    this.#index = new Uint32Array(2 * Math.max(PLACES_PER_RECORD, records.count * PLACES_PER_RECORD));
  }

  /** -1, or 2 · slot, plus 1 for the reply direction. */
  find(place: Place, protocol: number, tuple: Tuple): number {
    this.#setName(place, protocol, tuple);
    return this.#probe(false);
  }

  /** True if no connection has that tuple, but one goes on with it. */
  isTaken(place: Place, protocol: number, tuple: Tuple): boolean {
    this.#setName(place, protocol, tuple);
    return this.#probe(false) < 0 && this.#probe(true) >= 0;
  }

  hasAnyIn(place: Place): boolean {
    return this.#inPlace[place % PLACE_COUNTS]! > 0;
  }

  /**
   * True if it is found by this name. Of UDP that weft has ended, only replies are. A conversation of an end with itself has
   * one name: all its packets are of the original direction. Only what goes from a network to a network can be confused with
   * what its client sends there.
   */
  isFound(slot: number, name: number): boolean {
    const kind = this.#records.kind(slot);
    if (name === ORIGINAL) return kind !== 'ended' || this.#records.protocol(slot) !== IP_UDP;
    if (name === TAKEN) {
      const { places, via } = this.#records.read(slot);
      const isWithin = via === undefined && places.every((place) => place !== OUTSIDE && place !== INTERNAL);
      if (kind === 'tracked' || !isWithin) return false;
      // One that was only tracked when it was ended goes on with the tuple by which it is found.
      this.#copyName(4 * slot + TAKEN);
      return !this.#isNamed(4 * slot + ORIGINAL);
    }
    this.#copyName(4 * slot + REPLY);
    return !this.#isNamed(4 * slot + ORIGINAL);
  }

  insertAll(slot: number): void {
    for (const name of NAMES) if (this.isFound(slot, name)) this.#insert(4 * slot + name);
  }

  eraseAll(slot: number): void {
    for (const name of NAMES) if (this.isFound(slot, name)) this.erase(slot, name);
  }

  erase(slot: number, name: number): void {
    const handle = 4 * slot + name;
    this.#copyName(handle);
    this.#inPlace[this.#namedPlace() % PLACE_COUNTS]!--;
    const places = this.#index.length / 2;
    const distance = (from: number, to: number): number => (to >= from ? to - from : to + places - from);
    let hole = this.#home(this.#hash());
    while (this.#index[2 * hole + 1] !== handle + 1) hole = this.#next(hole);
    for (let at = this.#next(hole); this.#index[2 * at + 1] !== 0; at = this.#next(at)) {
      // An entry may move back unless its probe sequence begins after the hole.
      if (distance(this.#home(this.#index[2 * at]!), at) < distance(hole, at)) continue;
      this.#index[2 * hole] = this.#index[2 * at]!;
      this.#index[2 * hole + 1] = this.#index[2 * at + 1]!;
      hole = at;
    }
    this.#index[2 * hole + 1] = 0;
  }

  #insert(handle: number): void {
    this.#copyName(handle);
    const hash = this.#hash();
    let at = this.#home(hash);
    while (this.#index[2 * at + 1] !== 0) at = this.#next(at);
    this.#index[2 * at] = hash;
    this.#index[2 * at + 1] = handle + 1;
    this.#inPlace[this.#namedPlace() % PLACE_COUNTS]!++;
  }

  /** Looks for `#name`. @param taken whether a connection goes on with it instead */
  #probe(taken: boolean): number {
    const hash = this.#hash();
    for (let at = this.#home(hash); ; at = this.#next(at)) {
      const entry = this.#index[2 * at + 1]!;
      if (entry === 0) return -1;
      const handle = entry - 1;
      if (this.#index[2 * at] !== hash || ((handle & 3) === TAKEN) !== taken || !this.#isNamed(handle)) continue;
      return 2 * (handle >> 2) + (handle & REPLY);
    }
  }

  #setName(place: Place, protocol: number, { source, destination, sourcePort, destinationPort }: Tuple): void {
    this.#name.set(source);
    this.#name.set(destination, ADDRESS_BYTES);
    this.#nameView.setUint16(32, sourcePort);
    this.#nameView.setUint16(34, destinationPort);
    this.#nameView.setUint32(TUPLE_BYTES, place, true);
    this.#name[TUPLE_BYTES + 4] = protocol;
  }

  /** Sets `#name` to one of those of a connection. @param handle 4 · slot + name */
  #copyName(handle: number): void {
    const { memory } = this.#records;
    const at = recordAt(handle >> 2);
    const place = at + PLACES + 4 * (handle & REPLY);
    for (let i = 0; i < TUPLE_BYTES; i++) this.#name[i] = memory[tupleByte(handle, i)]!;
    this.#name.set(memory.subarray(place, place + 4), TUPLE_BYTES);
    this.#name[TUPLE_BYTES + 4] = memory[at + PROTOCOL]!;
  }

  /** @param handle 4 · slot + name */
  #isNamed(handle: number): boolean {
    const [{ memory }, name] = [this.#records, this.#name];
    const at = recordAt(handle >> 2);
    if (memory[at + PROTOCOL] !== name[TUPLE_BYTES + 4]) return false;
    const place = at + PLACES + 4 * (handle & REPLY);
    for (let i = 0; i < 4; i++) if (memory[place + i] !== name[TUPLE_BYTES + i]) return false;
    for (let i = 0; i < TUPLE_BYTES; i++) if (memory[tupleByte(handle, i)] !== name[i]) return false;
    return true;
  }

  #namedPlace(): number {
    return this.#nameView.getUint32(TUPLE_BYTES, true);
  }

  /** FNV-1a, mixed. */
  #hash(): number {
    let hash = 0x811c9dc5;
    for (let i = 0; i < this.#name.length; i++) hash = Math.imul(hash ^ this.#name[i]!, 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    return (hash ^ (hash >>> 13)) >>> 0;
  }

  #home(hash: number): number {
    return hash % (this.#index.length / 2);
  }

  #next(at: number): number {
    return at + 1 === this.#index.length / 2 ? 0 : at + 1;
  }
}

/** Where in the memory this byte of a name is. @param handle 4 · slot + name */
function tupleByte(handle: number, byte: number): number {
  const at = recordAt(handle >> 2);
  switch (handle & 3) {
    case ORIGINAL:
      return at + CONNECTION_ORIGINAL + byte;
    case TAKEN:
      return at + CONNECTION_TRANSLATED + byte;
    default:
      return at + CONNECTION_TRANSLATED + turnedByte(byte);
  }
}

/** The offset that this byte of a reversed tuple had before. */
function turnedByte(byte: number): number {
  if (byte < ADDRESS_BYTES) return byte + ADDRESS_BYTES;
  if (byte < 2 * ADDRESS_BYTES) return byte - ADDRESS_BYTES;
  return byte < 34 ? byte + 2 : byte - 2;
}
