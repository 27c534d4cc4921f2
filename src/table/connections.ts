/**
 * Connections: the conversations whose addresses are translated, found by the
 * tuples that their packets come in with.
 *
 *   container ──original──► [ translated ] ──► outside        opened from inside
 *   outside   ──original──► [ translated ] ──► container      to a published port
 *
 * A tuple means something in one place only: in a network, or outside. Each
 * connection is found from both: as its original packets come in, and as its
 * replies do.
 *
 * Bounded: there are as many as the memory has records but one, and one endpoint may have
 * `quota` of them. Beyond that one that is half-open, as long as nobody has answered, or
 * over is given up for a new one, the longest known first; where there is none, the new
 * one is refused. Of those that have only been half-open, or are over without having been in
 * use, an endpoint may have `unprovenQuota`: whoever opens connections that nobody takes costs
 * no more than that. A connection ends by its time-out, by what TCP is at (RFC 5382 §5,
 * RFC 4787 §4.3, RFC 5508 §3.2), or with its endpoint.
 *
 * The records outlive a crash; `recover` takes over what they hold.
 */
import {
  ConnectionRecords,
  formatEnd,
  protocolName,
  tupleId,
  turned,
  type ConnectionState,
  type ConnectionTuples,
  type ProtocolTuple,
  type Tuple,
} from '../flow/connection.ts';
import { bytesId } from '../flow/key.ts';
import type { DropReason } from '../flow/reason.ts';
import { isIp4, sameBytes, type Vni } from '../flow/types.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP } from '../wire/ipv4.ts';
import { NatPorts } from './nat-ports.ts';
import { LOOKED_AT, OwnedSlots } from './owned-slots.ts';
import { SlotLinks, SlotList } from './slot-list.ts';

export interface ConnectionOptions {
  /** Of `ConnectionRecords`. */
  readonly memory: Uint8Array;
  /** Connections that one endpoint may have. */
  readonly quota: number;
  /** Of these, that have not been seen in use: half-open, or over without having been in use. */
  readonly unprovenQuota: number;
  /** All addresses of the workload that has this one in this network, which share its quota; itself included. */
  readonly addressesWith: (vni: Vni, ip: Uint8Array) => readonly Uint8Array[];
  /** 8 random bytes: what ports connections get follows from it. */
  readonly natKey: Uint8Array;
  /** Does this port of the transit address belong to somebody, so that no connection from inside may have it? */
  readonly isReserved: (protocol: number, port: number) => boolean;
  /** It has ended: as the transit address sent it, or would have. */
  readonly onClosed?: ((outside: ProtocolTuple) => void) | undefined;
}

/** Where a tuple is seen: a network's VNI, or outside. */
export type Place = Vni | 0;
export const OUTSIDE = 0;

/** A connection that is to be opened. */
export type Opening =
  /** By an endpoint: its source becomes `address`, with a port of its own. */
  | { readonly vni: Vni; readonly protocol: number; readonly original: Tuple; readonly address: Uint8Array }
  /** From outside: its destination becomes the endpoint. */
  | { readonly vni: Vni; readonly protocol: number; readonly original: Tuple; readonly translated: Tuple };

export interface Found {
  readonly slot: number;
  readonly generation: number;
  /** The tuple is that of a reply. */
  readonly reply: boolean;
}

export interface ConnectionEntry extends ConnectionTuples {
  readonly slot: number;
  readonly state: ConnectionState;
  readonly packets: number;
  readonly replyPackets: number;
  readonly bytes: number;
  readonly replyBytes: number;
  readonly lastSeenMs: number;
  /** When it ends unless it is used, by the same clock. */
  readonly expiresAtMs: number;
}

/** Records that one sweep looks at. */
const SWEPT = 4096;
/** What may be given up: half-open, or over. */
const EXPENDABLE: ReadonlySet<ConnectionState> = new Set(['new', 'syn_sent', 'syn_received', 'time_wait', 'closed']);

/** As Linux does it: one that was reset goes before the 240 s of RFC 7857 §2.2 are over. */
const timeoutMs = {
  new: 120_000,
  answered: 120_000,
  syn_sent: 240_000,
  syn_received: 240_000,
  established: 7_440_000,
  closing: 240_000,
  time_wait: 240_000,
  closed: 10_000,
} as const satisfies Record<ConnectionState, number>;
const ICMP_TIMEOUT_MS = 60_000;
/** A question and its answer (RFC 4787 §4.3, REQ-5 a): who asks much is not to run out of connections. */
const DNS = { l4Port: 53, timeoutMs: 30_000 };

export class ConnectionTable {
  readonly #records: ConnectionRecords;
  readonly #quota: number;
  readonly #unprovenQuota: number;
  readonly #addressesWith: ConnectionOptions['addressesWith'];
  readonly #isReserved: ConnectionOptions['isReserved'];
  readonly #onClosed: ConnectionOptions['onClosed'];
  readonly #ports: NatPorts;
  readonly #byTuple = new Map<string, Found>();
  readonly #slotsOf = new Map<string, OwnedSlots>();
  /** Slots below this were used at some time. */
  #used = 0;
  /** Of those, free ones; the longest free first. */
  readonly #free: SlotList;
  readonly #links: SlotLinks;
  #generation = 0;
  #swept = 0;
  /** The next slot to be looked at where all are in use. */
  #hand = 0;

  constructor({ memory, quota, unprovenQuota, addressesWith, natKey, isReserved, onClosed }: ConnectionOptions) {
    this.#records = new ConnectionRecords(memory);
    this.#quota = quota;
    this.#unprovenQuota = unprovenQuota;
    this.#links = new SlotLinks(this.#records.count);
    this.#free = new SlotList(this.#links);
    this.#addressesWith = addressesWith;
    this.#ports = new NatPorts(natKey);
    this.#isReserved = isReserved;
    this.#onClosed = onClosed;
  }

  get size(): number {
    return this.#used - this.#free.size;
  }

  get limit(): number {
    return this.#records.count - 1;
  }

  lookup(place: Place, protocol: number, tuple: Tuple): Found | undefined {
    return this.#byTuple.get(tupleId(place, protocol, tuple));
  }

  /** What a found connection is about. */
  tuples(slot: number): ConnectionTuples {
    return this.#records.read(slot);
  }

  /** Is it still the connection that was found there? */
  isOpen({ slot, generation }: Pick<Found, 'slot' | 'generation'>): boolean {
    return this.#records.generation(slot) === generation;
  }

  /** Why it cannot be opened now; undefined if it can. To be asked before each `open`. */
  refusal(opening: Opening): DropReason | undefined {
    const addresses = this.#addressesOf(opening);
    const own = this.#slotsWith(opening.vni, addresses);
    // Here and not in `open`, which then decides the same.
    for (const slots of own) slots.lookOn(this.#isExpendable);
    if (this.#room(own) === 'none') return 'connection_limit';
    return this.#translated(opening, addresses) ? undefined : 'nat_ports';
  }

  /** Opens what is not refused. Returns the names of what changed. */
  open(opening: Opening, nowMs: number): readonly string[] {
    const addresses = this.#addressesOf(opening);
    const room = this.#room(this.#slotsWith(opening.vni, addresses));
    const translated = this.#translated(opening, addresses);
    if (room === 'none' || !translated) return [];
    const { vni, protocol, original } = opening;
    // Not the place of one that is given up: flows refer to that until its names have been heard.
    const slot = this.#takeSlot();
    const changed = typeof room === 'number' ? [...this.#close(room)] : [];
    const rival = this.#byTuple.get(tupleId(...replyOf(opening, translated)));
    if (rival) changed.push(...this.#close(rival.slot));
    this.#generation = (this.#generation % 0x7fff_ffff) + 1;
    this.#records.write(slot, this.#generation * 2, { vni, protocol, original, translated });
    this.#records.touch(slot, nowMs);
    return [...changed, ...this.#index(slot)];
  }

  /** Ends connections that have not been used for long: of some of them at each call. */
  expire(nowMs: number): readonly string[] {
    const changed: string[] = [];
    for (let n = Math.min(SWEPT, this.#used); n > 0; n--) {
      this.#swept = (this.#swept + 1) % this.#used;
      if (this.#records.generation(this.#swept) === 0) continue;
      if (nowMs >= this.#expiresAtMs(this.#swept)) changed.push(...this.#close(this.#swept));
    }
    return changed;
  }

  /** Ends those of an endpoint's address. */
  forget(vni: Vni, ip: Uint8Array): readonly string[] {
    return [...(this.#slotsOf.get(ownerId(vni, ip)) ?? [])].flatMap((slot) => this.#close(slot));
  }

  /** Ends those that `isOver` picks. */
  end(isOver: (connection: ConnectionTuples) => boolean): readonly string[] {
    const changed: string[] = [];
    for (let slot = 0; slot < this.#used; slot++) {
      if (this.#records.generation(slot) !== 0 && isOver(this.#records.read(slot))) changed.push(...this.#close(slot));
    }
    return changed;
  }

  /**
   * Takes over what the records hold from before, when there is nothing else yet;
   * what was torn is freed. Time-outs begin anew: the clock may be another one.
   */
  recover(nowMs: number): void {
    for (const slot of this.#records.usedSlots()) {
      const generation = this.#records.generation(slot);
      const connection = this.#records.read(slot);
      const isWhole = generation % 2 === 0 && isPlausible(connection);
      if (!isWhole || this.#isKnown(connection) || this.size >= this.limit) {
        this.#records.free(slot);
        continue;
      }
      for (let free = this.#used; free < slot; free++) this.#free.append(free);
      this.#used = slot + 1;
      this.#generation = Math.max(this.#generation, generation / 2);
      for (const reply of [false, true]) {
        const half = this.#records.half(slot, reply);
        this.#records.writeHalf(slot, reply, { ...half, lastSeenMs: nowMs });
      }
      this.#index(slot);
    }
  }

  *entries(): Generator<ConnectionEntry> {
    for (let slot = 0; slot < this.#used; slot++) {
      if (this.#records.generation(slot) === 0) continue;
      const [original, reply] = [this.#records.half(slot, false), this.#records.half(slot, true)];
      yield {
        ...this.#records.read(slot),
        slot,
        state: this.#records.state(slot),
        packets: original.packets,
        replyPackets: reply.packets,
        bytes: original.bytes,
        replyBytes: reply.bytes,
        lastSeenMs: this.#records.lastSeenMs(slot),
        expiresAtMs: this.#expiresAtMs(slot),
      };
    }
  }

  #expiresAtMs(slot: number): number {
    return this.#records.lastSeenMs(slot) + this.#timeoutMs(slot);
  }

  #timeoutMs(slot: number): number {
    const { protocol, original } = this.#records.read(slot);
    if (isEchoProtocol(protocol)) return ICMP_TIMEOUT_MS;
    if (protocol === IP_UDP && original.destinationPort === DNS.l4Port) return DNS.timeoutMs;
    return timeoutMs[this.#records.state(slot)];
  }

  /** Is there room for one more besides `own`, which is what its workload has: free, in the place of a connection that may be given up (its slot), or none? */
  #room(own: readonly OwnedSlots[]): 'free' | 'none' | number {
    const unproven = own.reduce((sum, slots) => sum + slots.unproven, 0);
    if (unproven >= this.#unprovenQuota) {
      const oldest = this.#oldestOf(own.map((slots) => slots.findUnproven(this.#isExpendable)));
      if (oldest !== undefined) return oldest;
    }
    const count = own.reduce((sum, slots) => sum + slots.size, 0);
    if (count >= this.#quota)
      return this.#oldestOf(own.map((slots) => slots.findExpendable(this.#isExpendable))) ?? 'none';
    return this.size < this.limit ? 'free' : (this.#expendable() ?? 'none');
  }

  /** Of the workload whose connection it is. */
  #addressesOf(opening: Opening): readonly Uint8Array[] {
    const endpoint = 'address' in opening ? opening.original.source : opening.translated.destination;
    return this.#addressesWith(opening.vni, endpoint);
  }

  #slotsWith(vni: Vni, addresses: readonly Uint8Array[]): OwnedSlots[] {
    return addresses.map((ip) => this.#slotsOf.get(ownerId(vni, ip))).filter((slots) => slots !== undefined);
  }

  /** The one that was opened first. */
  #oldestOf(slots: readonly (number | undefined)[]): number | undefined {
    const [oldest] = slots
      .filter((slot) => slot !== undefined)
      .sort((a, b) => this.#records.generation(a) - this.#records.generation(b));
    return oldest;
  }

  /** Of anyone, where all places are taken: a clock, whose hand has just passed the latest connections. */
  #expendable(): number | undefined {
    for (let looked = 0; looked < Math.min(LOOKED_AT, this.#used); looked++) {
      if (this.#isExpendable(this.#hand)) return this.#hand;
      this.#hand = (this.#hand + 1) % this.#used;
    }
    return undefined;
  }

  readonly #isExpendable = (slot: number): boolean =>
    this.#records.generation(slot) !== 0 && EXPENDABLE.has(this.#records.state(slot));

  /** As its original packets go out; undefined if no port is left for it. */
  #translated(opening: Opening, addresses: readonly Uint8Array[]): Tuple | undefined {
    if ('translated' in opening) {
      // The container may have a conversation of its own with the same ends.
      const rival = this.#byTuple.get(tupleId(...replyOf(opening, opening.translated)));
      return rival && !this.#isExpendable(rival.slot) ? undefined : opening.translated;
    }
    const { protocol, original, address } = opening;
    const isEcho = isEchoProtocol(protocol);
    const from = (port: number): Tuple => ({
      source: address,
      destination: original.destination,
      sourcePort: port,
      destinationPort: isEcho ? port : original.destinationPort,
    });
    const isFree = (port: number): boolean =>
      !this.#isReserved(protocol, port) && !this.#byTuple.has(tupleId(OUTSIDE, protocol, turned(from(port))));
    const port = this.#ports.choose(opening, addresses, isFree);
    return port === undefined ? undefined : from(port);
  }

  #isKnown(connection: ConnectionTuples): boolean {
    return idsOf(connection).some((id) => this.#byTuple.has(id));
  }

  #takeSlot(): number {
    const free = this.#free.first;
    if (free === undefined) return this.#used++;
    this.#free.delete(free);
    return free;
  }

  #index(slot: number): string[] {
    const connection = this.#records.read(slot);
    const generation = this.#records.generation(slot);
    idsOf(connection).forEach((id, n) => this.#byTuple.set(id, { slot, generation, reply: n === 1 }));
    const endpoint = endpointOf(connection);
    if (isFromInside(connection)) this.#ports.add(connection, this.#addressesWith(connection.vni, endpoint));
    const owner = ownerId(connection.vni, endpoint);
    const own = this.#slotsOf.get(owner) ?? new OwnedSlots(this.#links);
    own.add(slot);
    this.#slotsOf.set(owner, own);
    return objectsOf(connection);
  }

  #close(slot: number): string[] {
    const connection = this.#records.read(slot);
    this.#records.free(slot);
    for (const id of idsOf(connection)) this.#byTuple.delete(id);
    if (isFromInside(connection)) this.#ports.delete(connection);
    this.#onClosed?.({ protocol: connection.protocol, ...sentOutside(connection) });
    const owner = ownerId(connection.vni, endpointOf(connection));
    const own = this.#slotsOf.get(owner)!;
    own.delete(slot);
    this.#free.append(slot);
    if (own.size === 0) this.#slotsOf.delete(owner);
    return objectsOf(connection);
  }
}

/** Was it opened by its endpoint, whose source is hidden? */
export function isFromInside({ original, translated }: ConnectionTuples): boolean {
  return sameBytes(original.destination, translated.destination);
}

/** As packets of it leave, whoever opened it. */
function sentOutside(connection: ConnectionTuples): Tuple {
  return isFromInside(connection) ? connection.translated : turned(connection.original);
}

/** The container's address. */
export function endpointOf(connection: ConnectionTuples): Uint8Array {
  return isFromInside(connection) ? connection.original.source : connection.translated.destination;
}

/** What a decision consults that looks for a connection by its tuple. */
export function connectionObject(place: Place, protocol: number, tuple: Tuple): string {
  const { source, sourcePort, destination, destinationPort } = tuple;
  const ends = `${formatEnd(source, sourcePort)}-${formatEnd(destination, destinationPort)}`;
  return `connection/${place}/${protocolName(protocol)}/${ends}`;
}

/** By which tuple it is found in which place: as its original packets come in, and as its replies do. */
function namesOf(connection: ConnectionTuples): [original: [Place, Tuple], reply: [Place, Tuple]] {
  const { vni, original, translated } = connection;
  const [from, to] = isFromInside(connection) ? ([vni, OUTSIDE] as const) : ([OUTSIDE, vni] as const);
  return [
    [from, original],
    [to, turned(translated)],
  ];
}

/** By which its replies will be found. */
function replyOf(opening: Opening, translated: Tuple): [Place, protocol: number, Tuple] {
  return ['address' in opening ? OUTSIDE : opening.vni, opening.protocol, turned(translated)];
}

function idsOf(connection: ConnectionTuples): string[] {
  return namesOf(connection).map(([place, tuple]) => tupleId(place, connection.protocol, tuple));
}

function objectsOf(connection: ConnectionTuples): string[] {
  return namesOf(connection).map(([place, tuple]) => connectionObject(place, connection.protocol, tuple));
}

function ownerId(vni: Vni, ip: Uint8Array): string {
  return `${vni}/${bytesId(ip)}`;
}

function isEchoProtocol(protocol: number): boolean {
  return protocol === IP_ICMP || protocol === IP_ICMPV6;
}

/** Is it what an undamaged record can say? */
function isPlausible({ vni, protocol, original, translated }: ConnectionTuples): boolean {
  const families = [original.source, original.destination, translated.source, translated.destination].map(isIp4);
  return vni > 0 && [IP_TCP, IP_UDP, IP_ICMP, IP_ICMPV6].includes(protocol) && new Set(families).size === 1;
}
