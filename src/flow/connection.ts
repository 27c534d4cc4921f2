/**
 * Connections: what the switch remembers of conversations, as records in memory that it shares with its
 * datapath and that survives a crash. `native/connection.h` has the same layout, compared at load, and
 * says which thread writes what.
 *
 * A connection is identified by two tuples: that of packets of its original direction as they come in,
 * and that of the same packets as they go out. Packets of the reply direction come in and go out with
 * these two tuples reversed. A tuple is meaningful in one place only (a network, the outside, the
 * namespace of weft's own sockets), so each direction has the place where its packets come in. If a
 * connection is only tracked, both tuples are the same.
 *
 * The packets of each direction are counted in its half of the record. The state of a connection
 * follows from both halves and is not stored. While a record is written, its generation is odd; this is
 * how to recognize one that a crash has left half written.
 */
import { hasPorts } from '../wire/ipv4.ts';
import { readTreatment, TREATMENT_BYTES, writeTreatment, type Treatment } from './treatment.ts';
import { formatIp, isIp4, type PortNo, type Vni } from './types.ts';

/** The version of this layout. A file of another version is never read as this one. */
const CONNECTION_VERSION = 2;
/** The size of a record. */
export const CONNECTION_BYTES = 256;
export const CONNECTION_PLACES = 8;
export const CONNECTION_ORIGINAL = 16;
export const CONNECTION_TRANSLATED = 128;
/** The halves of the original direction and of replies. */
export const CONNECTION_HALF = 64;
export const CONNECTION_REPLY_HALF = 192;
/** The owner whose quota it counts towards, followed by the links of the owner's list. */
export const CONNECTION_OWNER = 52;
export const CONNECTION_PIN = 164;
export const CONNECTION_TABLE = 168;
export const CONNECTION_VIA = 176;
/**
 * In a half: the id of the cached flow that its packets take, followed by where the native datapath found that flow.
 */
export const CONNECTION_HALF_FLOW = 36;
/** In the half of the original direction. */
export const CONNECTION_HALF_TREATMENT = 44;
export const CONNECTION_HALF_PORT = 60;
const PROTOCOL = 4;
const KIND = 5;
const VERDICT = 6;

/** Values of the verdict: of a connection that weft has ended, why that is so. */
export const endVerdicts = { other: 0, denied_egress: 1, denied_ingress: 2 } as const;
export type EndVerdict = (typeof endVerdicts)[keyof typeof endVerdicts];

/** The size of what is passed to the addon to open a connection: native/connection_table.h. */
export const CONNECTION_OPENING_TREATMENT = 108;
export const CONNECTION_OPENING_PORT = CONNECTION_OPENING_TREATMENT + TREATMENT_BYTES;
export const CONNECTION_OPENING_BYTES = CONNECTION_OPENING_PORT + 4;

/** In the header: how many records may have been used, after magic, version and size of a record. */
const CONNECTION_READY = 16;

/** Source ports, and identifiers of pings, that connections from inside get: 52,000 to 65,535. */
export const NAT_PORTS = { first: 52_000, count: 13_536 } as const;

/** Values of a half's `seen`: what one side of a TCP connection has sent. */
export const SEEN_SYN = 1;
export const SEEN_ACK = 2;
export const SEEN_FIN = 4;
export const SEEN_RST = 8;
/** Of the reply half alone: a segment between these ends that does not answer the SYN. Its sender has another conversation. */
export const SEEN_OTHER = 16;

const TCP = 6;
const UDP = 17;
const SCTP = 132;

/**
 * Addresses are 16 bytes, IPv4-mapped or IPv6. For an echo, both ports are its identifier; a protocol without ports has 0.
 */
export interface Tuple {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export interface ProtocolTuple extends Tuple {
  readonly protocol: number;
}

/** Where a tuple is seen: the VNI of a network, outside, or the namespace of weft's own sockets. */
export type Place = Vni | typeof OUTSIDE | typeof INTERNAL;
export const OUTSIDE = 0;
/** The first number that is no VNI. */
export const INTERNAL = 0x0100_0000;

/**
 * Whether it is only tracked, or its addresses are translated; or it was translated, and weft has ended it. Packets of
 * one that has ended are known as such for a while, so that none of them passes untranslated.
 */
export type ConnectionKind = 'tracked' | 'translated' | 'ended';
const kinds: readonly ConnectionKind[] = ['tracked', 'translated', 'ended'];

/** The number that stands for it in records. */
export function kindNumber(kind: ConnectionKind): number {
  return kinds.indexOf(kind) + 1;
}

/** A connection to be opened. */
export interface ConnectionTuples {
  readonly kind: ConnectionKind;
  /** Where packets of the original direction come in, and those of the reply direction. */
  readonly places: readonly [original: Place, reply: Place];
  /** TCP, UDP, or ICMP or ICMPv6 echo; of one that is only tracked, any. */
  readonly protocol: number;
  readonly original: Tuple;
  readonly translated: Tuple;
  /** The number of the backend that was chosen for it; undefined if it had no choice. */
  readonly pin?: number;
  /**
   * The balancing table by which that was chosen, if the datapath may close it by itself, as it may those that are only
   * tracked; undefined if whoever opens connections learns of its end.
   */
  readonly table?: number;
  /**
   * The VTEP of the host that it came in by from outside, if that is another one: its replies go back there. Both tuples
   * are the same, since that host translates them.
   */
  readonly via?: Uint8Array;
  /** What hooks have set for it. */
  readonly treatment?: Treatment | undefined;
}

/** A connection to be opened. */
export interface ConnectionOpening extends ConnectionTuples {
  /** Where a translated one comes in; undefined: not by a port of this host. */
  readonly port?: PortNo | undefined;
}

/** What one direction has sent. */
export interface Half {
  /** By the datapath's clock. */
  lastSeenMs: number;
  packets: number;
  bytes: number;
  /** TCP: the sequence number after the last byte. */
  end: number;
  /** TCP: the last acknowledgment number. */
  acked: number;
  seen: number;
}

export type ConnectionState =
  | 'new'
  | 'answered'
  | 'syn_sent'
  | 'syn_received'
  | 'established'
  | 'closing'
  | 'time_wait'
  | 'closed';

/** The size of this many records, including the header. */
export function connectionBytes(count: number): number {
  return (count + 1) * CONNECTION_BYTES;
}

const MAGIC = 'weftconn';

/** The beginning of a file with connections of this layout: magic, version, size of a record. */
export function connectionFileHeader(): Uint8Array {
  const header = new Uint8Array(CONNECTION_READY);
  for (let i = 0; i < MAGIC.length; i++) header[i] = MAGIC.charCodeAt(i);
  const view = new DataView(header.buffer);
  view.setUint32(8, CONNECTION_VERSION, true);
  view.setUint32(12, CONNECTION_BYTES, true);
  return header;
}

const WORDS = CONNECTION_BYTES / 4;

/** Where a word of a record is. @param offset in bytes */
function wordAt(slot: number, offset: number): number {
  return (recordAt(slot) + offset) / 4;
}

/** Those of a class, while its id is made. */
const classBytes = Buffer.alloc(80);

/** Records in a piece of memory. Free slots have generation 0. */
export class ConnectionRecords {
  readonly memory: Uint8Array;
  readonly count: number;
  readonly #view: DataView;
  readonly #buffer: Buffer;
  /** In the order of the machine, as the datapath writes them. */
  readonly #words: Uint32Array;

  /** @param memory of size `connectionBytes`, aligned to 8 bytes, initially all zero */
  constructor(memory: Uint8Array) {
    this.memory = memory;
    this.count = Math.max(0, Math.floor(memory.byteLength / CONNECTION_BYTES) - 1);
    this.#view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    this.#buffer = Buffer.from(memory.buffer, memory.byteOffset, memory.byteLength);
    this.#words = new Uint32Array(memory.buffer, memory.byteOffset, memory.byteLength >> 2);
  }

  /** Slots from this one on have never been used. */
  get ready(): number {
    return this.#view.getUint32(CONNECTION_READY, true);
  }

  set ready(slots: number) {
    this.#view.setUint32(CONNECTION_READY, slots, true);
  }

  generation(slot: number): number {
    return this.#view.getUint32(recordAt(slot), true);
  }

  kind(slot: number): ConnectionKind {
    return kinds[this.#view.getUint8(recordAt(slot) + KIND) - 1] ?? 'tracked';
  }

  protocol(slot: number): number {
    return this.#view.getUint8(recordAt(slot) + PROTOCOL);
  }

  /** Whose quota it counts towards; of one that is only tracked, the number of the port that its first packet came in by. */
  owner(slot: number): number {
    return this.#view.getUint32(recordAt(slot) + CONNECTION_OWNER, true);
  }

  /**
   * Who began it, as a number that others may have, too: the last word of the address; of what comes from outside, whose quota
   * it counts towards.
   */
  beginner(slot: number): number {
    const isFromOutside = this.#words[wordAt(slot, CONNECTION_PLACES)] === OUTSIDE;
    return this.#words[wordAt(slot, isFromOutside ? CONNECTION_OWNER : CONNECTION_ORIGINAL + 12)]!;
  }

  /** Opens a connection in a free slot. @param generation even, not 0 */
  write(slot: number, generation: number, connection: ConnectionOpening): void {
    const { kind, places, protocol, original, translated, pin, table, via, treatment, port } = connection;
    const at = recordAt(slot);
    this.#view.setUint32(at, generation - 1, true);
    this.memory.fill(0, at + 4, at + CONNECTION_BYTES);
    this.#view.setUint8(at + PROTOCOL, protocol);
    this.#view.setUint8(at + KIND, kindNumber(kind));
    places.forEach((place, n) => this.#view.setUint32(at + CONNECTION_PLACES + 4 * n, place, true));
    writeTuple(this.#view, at + CONNECTION_ORIGINAL, original);
    writeTuple(this.#view, at + CONNECTION_TRANSLATED, translated);
    this.#view.setUint32(at + CONNECTION_PIN, pin ?? 0, true);
    this.#view.setUint32(at + CONNECTION_TABLE, table ?? 0, true);
    if (via) this.memory.set(via, at + CONNECTION_VIA);
    writeTreatment(this.#view, at + CONNECTION_HALF + CONNECTION_HALF_TREATMENT, treatment);
    this.#view.setUint32(at + CONNECTION_HALF + CONNECTION_HALF_PORT, port ?? 0, true);
    this.#view.setUint32(at, generation, true);
  }

  /** From now on, weft has ended it, for that reason. */
  end(slot: number, verdict: EndVerdict): void {
    this.#view.setUint8(recordAt(slot) + VERDICT, verdict);
    this.#view.setUint8(recordAt(slot) + KIND, kindNumber('ended'));
  }

  free(slot: number): void {
    this.#view.setUint32(recordAt(slot), 0, true);
  }

  read(slot: number): ConnectionTuples {
    const at = recordAt(slot);
    const pin = this.pin(slot);
    const table = this.table(slot);
    const via = this.via(slot);
    const treatment = this.treatment(slot);
    const from = this.#view.getUint32(at + CONNECTION_PLACES, true) as Place;
    const to = this.#view.getUint32(at + CONNECTION_PLACES + 4, true) as Place;
    return {
      kind: this.kind(slot),
      places: [from, to],
      protocol: this.#view.getUint8(at + PROTOCOL),
      original: this.#readTuple(at + CONNECTION_ORIGINAL),
      translated: this.#readTuple(at + CONNECTION_TRANSLATED),
      ...(pin !== 0 && { pin }),
      ...(table !== 0 && { table }),
      ...(via && { via }),
      ...(treatment && { treatment }),
    };
  }

  /** What hooks have set for it; undefined if that is nothing. */
  treatment(slot: number): Treatment | undefined {
    return readTreatment(this.#view, recordAt(slot) + CONNECTION_HALF + CONNECTION_HALF_TREATMENT);
  }

  /** The port of this host that a translated one came in by; 0 if it did not, or that is not known. */
  port(slot: number): number {
    return this.#view.getUint32(recordAt(slot) + CONNECTION_HALF + CONNECTION_HALF_PORT, true);
  }

  /** The number of the backend that was chosen for it; 0 if it had no choice. */
  pin(slot: number): number {
    return this.#view.getUint32(recordAt(slot) + CONNECTION_PIN, true);
  }

  /**
   * The next slot from `from` on, below `to`, whose record has a pin of these; -1 if there is none. It may be free by now. One
   * word of each record is read, which mostly has to come from memory.
   */
  nextPinned(from: number, to: number, pins: { has(pin: number): boolean }): number {
    const words = this.#words;
    const end = Math.min(this.ready, to);
    for (let slot = from, at = wordAt(from, CONNECTION_PIN); slot < end; slot++, at += WORDS) {
      const pin = words[at]!;
      if (pin !== 0 && pins.has(pin)) return slot;
    }
    return -1;
  }

  /** The same for records of that protocol. */
  nextOfProtocol(from: number, to: number, protocol: number): number {
    const end = Math.min(this.ready, to);
    for (let slot = from; slot < end; slot++) if (this.protocol(slot) === protocol) return slot;
    return -1;
  }

  /** The same for records of connections that came in by this VTEP. */
  nextVia(from: number, to: number, vtep: Uint8Array): number {
    const words = this.#words;
    const end = Math.min(this.ready, to);
    const [a, b, c, d] = new Uint32Array(vtep.slice(0, 16).buffer);
    for (let slot = from, at = wordAt(from, CONNECTION_VIA); slot < end; slot++, at += WORDS) {
      if (words[at + 3] === d && words[at + 2] === c && words[at + 1] === b && words[at] === a) return slot;
    }
    return -1;
  }

  /**
   * The same for records of connections whose packets come from an address that ends with one of these words, or go there.
   * @param words of addresses (`lastWord`)
   */
  nextOf(from: number, to: number, words: { has(word: number): boolean }): number {
    const all = this.#words;
    const end = Math.min(this.ready, to);
    const last = CONNECTION_ORIGINAL + 12;
    for (let slot = from, at = wordAt(from, last); slot < end; slot++, at += WORDS) {
      if (words.has(all[at]!) || words.has(all[at + 4]!)) return slot;
    }
    return -1;
  }

  /**
   * The same for records of connections between ends one of which has such an address: the one that has opened it, or the one
   * that it goes to after all translation.
   */
  nextBetween(from: number, to: number, words: { has(word: number): boolean }): number {
    const all = this.#words;
    const end = Math.min(this.ready, to);
    const toDestination = (CONNECTION_TRANSLATED + 16 - CONNECTION_ORIGINAL) / 4;
    for (let slot = from, at = wordAt(from, CONNECTION_ORIGINAL + 12); slot < end; slot++, at += WORDS) {
      if (words.has(all[at]!) || words.has(all[at + toDestination]!)) return slot;
    }
    return -1;
  }

  /** The balancing table that chose it, if the datapath may close it by itself; else 0. */
  table(slot: number): number {
    return this.#view.getUint32(recordAt(slot) + CONNECTION_TABLE, true);
  }

  /** From now on, the datapath does not close it by itself. */
  clearTable(slot: number): void {
    this.#view.setUint32(recordAt(slot) + CONNECTION_TABLE, 0, true);
  }

  /** The VTEP of the host that it came in by from outside; undefined if that is this one, or if it did not. */
  via(slot: number): Uint8Array | undefined {
    const at = recordAt(slot) + CONNECTION_VIA;
    const view = this.#view;
    const any = view.getUint32(at) | view.getUint32(at + 4) | view.getUint32(at + 8) | view.getUint32(at + 12);
    return any === 0 ? undefined : this.memory.slice(at, at + 16);
  }

  half(slot: number, reply: boolean): Half {
    const at = this.#halfAt(slot, reply);
    return {
      lastSeenMs: this.#view.getFloat64(at, true),
      packets: Number(this.#view.getBigUint64(at + 8, true)),
      bytes: Number(this.#view.getBigUint64(at + 16, true)),
      end: this.#view.getUint32(at + 24, true),
      acked: this.#view.getUint32(at + 28, true),
      seen: this.#view.getUint32(at + 32, true),
    };
  }

  writeHalf(slot: number, reply: boolean, half: Half): void {
    const at = this.#halfAt(slot, reply);
    this.#view.setFloat64(at, half.lastSeenMs, true);
    this.#view.setBigUint64(at + 8, BigInt(half.packets), true);
    this.#view.setBigUint64(at + 16, BigInt(half.bytes), true);
    this.#view.setUint32(at + 24, half.end, true);
    this.#view.setUint32(at + 28, half.acked, true);
    this.#view.setUint32(at + 32, half.seen, true);
  }

  /** The cached flow that packets of this direction take; 0 means none yet. */
  flow(slot: number, reply: boolean): number {
    return this.#view.getUint32(this.#halfAt(slot, reply) + CONNECTION_HALF_FLOW, true);
  }

  setFlow(slot: number, reply: boolean, flow: number): void {
    this.#view.setUint32(this.#halfAt(slot, reply) + CONNECTION_HALF_FLOW, flow, true);
  }

  /** Notes that the connection was used at this time, whatever its halves say. */
  touch(slot: number, nowMs: number): void {
    this.#view.setFloat64(this.#halfAt(slot, false), nowMs, true);
  }

  lastSeenMs(slot: number): number {
    const [original, reply] = [this.#halfAt(slot, false), this.#halfAt(slot, true)];
    return Math.max(this.#view.getFloat64(original, true), this.#view.getFloat64(reply, true));
  }

  /** What that direction has sent: `SEEN_SYN` and the like. */
  seen(slot: number, reply: boolean): number {
    return this.#view.getUint32(this.#halfAt(slot, reply) + 32, true);
  }

  /** One of `endVerdicts`. */
  verdict(slot: number): number {
    return this.#view.getUint8(recordAt(slot) + VERDICT);
  }

  /** Adds to what that direction has sent. */
  noteSeen(slot: number, reply: boolean, seen: number): void {
    this.#view.setUint32(this.#halfAt(slot, reply) + 32, this.seen(slot, reply) | seen, true);
  }

  /**
   * The same for all connections in which the same workloads talk by the same protocol and destination port: policies say the
   * same of them. It is made of the bytes of the record, since there may be very many.
   */
  classId(slot: number): string {
    const at = recordAt(slot);
    const port = at + CONNECTION_HALF + CONNECTION_HALF_PORT;
    const end = at + CONNECTION_TRANSLATED + 36;
    let used = this.#copy(at + PROTOCOL, at + KIND + 1, 0);
    used = this.#copy(at + CONNECTION_OWNER, at + CONNECTION_OWNER + 4, used);
    used = this.#copy(port, port + 4, used);
    // The source port of the original tuple is left out, and so is the source that it becomes.
    used = this.#copy(at + CONNECTION_PLACES, at + CONNECTION_ORIGINAL + 32, used);
    used = this.#copy(at + CONNECTION_TRANSLATED + 16, at + CONNECTION_TRANSLATED + 32, used);
    if (hasPorts(this.protocol(slot))) used = this.#copy(end - 2, end, used);
    return classBytes.toString('latin1', 0, used);
  }

  /** Copies bytes to `classBytes`. One by one: there are so few that calls would take longer. @returns what is used by then */
  #copy(from: number, to: number, used: number): number {
    const buffer = this.#buffer;
    let end = used;
    for (let at = from; at < to; at++) classBytes[end++] = buffer[at]!;
    return end;
  }

  state(slot: number): ConnectionState {
    const [original, reply] = [this.#halfAt(slot, false), this.#halfAt(slot, true)];
    if (this.kind(slot) === 'ended') return 'time_wait';
    const isAnswered = this.#hasSent(original) && this.#hasSent(reply);
    if (this.protocol(slot) !== TCP) return isAnswered ? 'answered' : 'new';
    const [seen, replySeen] = [this.#view.getUint32(original + 32, true), this.#view.getUint32(reply + 32, true)];
    const both = seen & replySeen;
    const either = seen | replySeen;
    if (either & SEEN_RST) return 'closed';
    if (both & SEEN_FIN) return 'time_wait';
    if (!isAnswered) return 'syn_sent'; // whatever it was that nobody has answered, also a FIN
    if (either & SEEN_FIN) return 'closing';
    return both & SEEN_ACK ? 'established' : 'syn_received';
  }

  #hasSent(half: number): boolean {
    return (this.#view.getUint32(half + 8, true) | this.#view.getUint32(half + 12, true)) !== 0;
  }

  #halfAt(slot: number, reply: boolean): number {
    return recordAt(slot) + (reply ? CONNECTION_REPLY_HALF : CONNECTION_HALF);
  }

  #readTuple(at: number): Tuple {
    return {
      source: this.memory.slice(at, at + 16),
      destination: this.memory.slice(at + 16, at + 32),
      sourcePort: this.#view.getUint16(at + 32),
      destinationPort: this.#view.getUint16(at + 34),
    };
  }
}

/** The layout in records: addresses, then big-endian ports. */
export function writeTuple(view: DataView, at: number, tuple: Tuple): void {
  const { source, destination, sourcePort, destinationPort } = tuple;
  for (let i = 0; i < 16; i++) {
    view.setUint8(at + i, source[i]!);
    view.setUint8(at + 16 + i, destination[i]!);
  }
  view.setUint16(at + 32, sourcePort);
  view.setUint16(at + 34, destinationPort);
}

/** The last four bytes of an address, little-endian: by these, records are found without reading all of them. */
export function lastWord(ip: Uint8Array): number {
  return new DataView(ip.buffer, ip.byteOffset).getUint32(12, true);
}

/** The offset of the record of a slot. */
export function recordAt(slot: number): number {
  return (slot + 1) * CONNECTION_BYTES;
}

/** The network of a connection: that of its endpoint, or the one where it was opened. */
export function networkOf({ places: [from, to] }: Pick<ConnectionTuples, 'places'>): Vni {
  return (from === OUTSIDE || from === INTERNAL ? to : from) as Vni;
}

/** True if one end is a socket of weft itself. */
export function isInternal({ places }: Pick<ConnectionTuples, 'places'>): boolean {
  return places.includes(INTERNAL);
}

/** The tuple reversed, as the reply direction has it. */
export function turned({ source, destination, sourcePort, destinationPort }: Tuple): Tuple {
  return { source: destination, destination: source, sourcePort: destinationPort, destinationPort: sourcePort };
}

export function protocolNumber(protocol: 'TCP' | 'UDP' | 'SCTP'): number {
  return protocol === 'TCP' ? TCP : protocol === 'UDP' ? UDP : SCTP;
}

const protocolNames: Readonly<Record<number, string>> = {
  1: 'icmp',
  [TCP]: 'tcp',
  [UDP]: 'udp',
  58: 'icmp',
  132: 'sctp',
};

/** `proto 47` for one that has no name here. */
export function protocolName(protocol: number): string {
  return protocolNames[protocol] ?? `proto ${protocol}`;
}

/** `10.0.0.2:40000`; for an echo, with its identifier. */
export function formatEnd(ip: Uint8Array, port: number): string {
  return isIp4(ip) ? `${formatIp(ip)}:${port}` : `[${formatIp(ip)}]:${port}`;
}
