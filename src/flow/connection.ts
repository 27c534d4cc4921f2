/**
 * Connections: what address translation remembers of a conversation, as records
 * in memory that the switch shares with its datapath and that outlives a crash
 * (`native/connection.h` has the same layout, compared at load).
 *
 * A connection is known by two tuples: as packets of its original direction come
 * in, and as they go out. Those of the reply direction come in and go out as the
 * same two, turned round.
 *
 * The switch opens and closes connections; the datapath counts each direction's
 * packets in its half. What a connection is at follows from both halves and is
 * kept nowhere. A record that is being written has an odd generation: what a
 * crash leaves torn is known by it.
 */
import { bytesId } from './key.ts';
import { formatIp, isIp4, type Vni } from './types.ts';

/** Of one record. */
export const CONNECTION_BYTES = 256;
export const CONNECTION_ORIGINAL = 12;
export const CONNECTION_TRANSLATED = 48;
export const CONNECTION_HALVES = 128;
const HALF_BYTES = 64;
const TUPLE_BYTES = 36;

/** Source ports, and identifiers of pings, that connections from inside get: 52,000 to 65,535. */
export const NAT_PORTS = { first: 52_000, count: 13_536 } as const;

const VNI = 4;
const PROTOCOL = 8;

/** Of a half's `seen`: what one side of a TCP connection has sent. */
export const SEEN_SYN = 1;
export const SEEN_ACK = 2;
export const SEEN_FIN = 4;
export const SEEN_RST = 8;

const TCP = 6;
const UDP = 17;

/** Addresses are 16 bytes, IPv4-mapped or IPv6. Of an echo, both ports are its identifier. */
export interface Tuple {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export interface ProtocolTuple extends Tuple {
  readonly protocol: number;
}

export interface ConnectionTuples {
  /** The network that the container is in. */
  readonly vni: Vni;
  /** TCP, UDP, or ICMP or ICMPv6 echo. */
  readonly protocol: number;
  readonly original: Tuple;
  readonly translated: Tuple;
}

/** What one direction has sent. */
export interface Half {
  /** By the datapath's clock. */
  lastSeenMs: number;
  packets: number;
  bytes: number;
  /** TCP: the sequence number behind the last byte. */
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

/** Records in a piece of memory; the slots of those that are free have generation 0. */
export class ConnectionRecords {
  readonly memory: Uint8Array;
  readonly count: number;
  readonly #view: DataView;

  /** @param memory a multiple of CONNECTION_BYTES, aligned to 4 bytes, all zero at first */
  constructor(memory: Uint8Array) {
    this.memory = memory;
    this.count = Math.floor(memory.byteLength / CONNECTION_BYTES);
    this.#view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  }

  generation(slot: number): number {
    return this.#view.getUint32(slot * CONNECTION_BYTES, true);
  }

  /** The slots that are not free, in order. A start waits for this, before any of it is compiled well. */
  usedSlots(): number[] {
    const wordsEach = CONNECTION_BYTES / 4;
    const words = new Uint32Array(this.memory.buffer, this.memory.byteOffset, this.count * wordsEach);
    const used: number[] = [];
    for (let at = 0, slot = 0; at < words.length; at += wordsEach, slot++) if (words[at] !== 0) used.push(slot);
    return used;
  }

  /** Opens a connection in a free slot. @param generation even, not 0 */
  write(slot: number, generation: number, { vni, protocol, original, translated }: ConnectionTuples): void {
    const at = slot * CONNECTION_BYTES;
    this.#view.setUint32(at, generation - 1, true);
    this.memory.fill(0, at + 4, at + CONNECTION_BYTES);
    this.#view.setUint32(at + VNI, vni, true);
    this.#view.setUint8(at + PROTOCOL, protocol);
    this.#writeTuple(at + CONNECTION_ORIGINAL, original);
    this.#writeTuple(at + CONNECTION_TRANSLATED, translated);
    this.#view.setUint32(at, generation, true);
  }

  free(slot: number): void {
    this.#view.setUint32(slot * CONNECTION_BYTES, 0, true);
  }

  read(slot: number): ConnectionTuples {
    const at = slot * CONNECTION_BYTES;
    return {
      vni: this.#view.getUint32(at + VNI, true) as Vni,
      protocol: this.#view.getUint8(at + PROTOCOL),
      original: this.#readTuple(at + CONNECTION_ORIGINAL),
      translated: this.#readTuple(at + CONNECTION_TRANSLATED),
    };
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

  /** The connection was used at this time, whatever its halves say. */
  touch(slot: number, nowMs: number): void {
    this.#view.setFloat64(this.#halfAt(slot, false), nowMs, true);
  }

  lastSeenMs(slot: number): number {
    const [original, reply] = [this.#halfAt(slot, false), this.#halfAt(slot, true)];
    return Math.max(this.#view.getFloat64(original, true), this.#view.getFloat64(reply, true));
  }

  state(slot: number): ConnectionState {
    const [original, reply] = [this.#halfAt(slot, false), this.#halfAt(slot, true)];
    const isAnswered = this.#hasSent(original) && this.#hasSent(reply);
    if (this.#view.getUint8(slot * CONNECTION_BYTES + PROTOCOL) !== TCP) return isAnswered ? 'answered' : 'new';
    const [seen, replySeen] = [this.#view.getUint32(original + 32, true), this.#view.getUint32(reply + 32, true)];
    const both = seen & replySeen;
    const either = seen | replySeen;
    if (either & SEEN_RST) return 'closed';
    if (both & SEEN_FIN) return 'time_wait';
    if (either & SEEN_FIN) return 'closing';
    if (!isAnswered) return 'syn_sent';
    return both & SEEN_ACK ? 'established' : 'syn_received';
  }

  #hasSent(half: number): boolean {
    return (this.#view.getUint32(half + 8, true) | this.#view.getUint32(half + 12, true)) !== 0;
  }

  #halfAt(slot: number, reply: boolean): number {
    return slot * CONNECTION_BYTES + CONNECTION_HALVES + (reply ? HALF_BYTES : 0);
  }

  #writeTuple(at: number, { source, destination, sourcePort, destinationPort }: Tuple): void {
    this.memory.set(source, at);
    this.memory.set(destination, at + 16);
    this.#view.setUint16(at + 32, sourcePort);
    this.#view.setUint16(at + 34, destinationPort);
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

/** As the reply direction has it. */
export function turned({ source, destination, sourcePort, destinationPort }: Tuple): Tuple {
  return { source: destination, destination: source, sourcePort: destinationPort, destinationPort: sourcePort };
}

const scratch = new Uint8Array(TUPLE_BYTES + 5);
const scratchView = new DataView(scratch.buffer);

/** A string that is equal exactly for equal tuples of one protocol in one place: for Map keys. */
export function tupleId(place: number, protocol: number, tuple: Tuple): string {
  scratchView.setUint32(0, place);
  scratchView.setUint8(4, protocol);
  scratch.set(tuple.source, 5);
  scratch.set(tuple.destination, 21);
  scratchView.setUint16(37, tuple.sourcePort);
  scratchView.setUint16(39, tuple.destinationPort);
  return bytesId(scratch);
}

export function protocolNumber(protocol: 'TCP' | 'UDP'): number {
  return protocol === 'TCP' ? TCP : UDP;
}

export function protocolName(protocol: number): 'tcp' | 'udp' | 'icmp' {
  return protocol === TCP ? 'tcp' : protocol === UDP ? 'udp' : 'icmp';
}

/** `10.0.0.2:40000`; of an echo its identifier. */
export function formatEnd(ip: Uint8Array, port: number): string {
  return isIp4(ip) ? `${formatIp(ip)}:${port}` : `[${formatIp(ip)}]:${port}`;
}
