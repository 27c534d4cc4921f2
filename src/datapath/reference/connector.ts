/**
 * What the datapath does with connections: it finds the connection of a packet, opens and counts it,
 * translates addresses, and gives each of its directions the flow that its packets take.
 * native/datapath_connections.cc does the same.
 */
import type { Action } from '../../flow/action.ts';
import { SEEN_OTHER, type Place, type ProtocolTuple } from '../../flow/connection.ts';
import { PEER_OWNERS } from '../../flow/connection-store.ts';
import { isErrorKey, isOf, stateOfError, tupleOfKey } from '../../flow/connection-of-key.ts';
import { awaitedAnswer, isAnotherSyn, isGivenUp, isTaken, OVER } from '../../flow/connection-state.ts';
import { ctState, fields } from '../../flow/fields.ts';
import { covers, readBytes, readNumber, writeNumber, type FlowKey } from '../../flow/key.ts';
import type { DropReason } from '../../flow/reason.ts';
import type { MeterName } from '../../flow/treatment.ts';
import type { FlowId, PortNo } from '../../flow/types.ts';
import { ICMP_ECHO_REQUEST, ICMPV6_ECHO_REQUEST } from '../../wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP } from '../../wire/ipv4.ts';
import { getU32 } from '../../wire/bytes.ts';
import {
  answersTcp,
  beginsTcp,
  TCP_ACK,
  TCP_ACKNOWLEDGMENT,
  TCP_FLAGS,
  TCP_RST,
  TCP_SEQUENCE,
  TCP_SYN,
} from '../../wire/l4.ts';
import { BalancedWays } from './balancing.ts';
import { REFUSED, type ReferenceConnections } from './connections.ts';
import type { CacheEntry, FlowCache } from './flow-cache.ts';
import { l4Offset, translateAddresses, translateRelated } from './nat.ts';
import { Meters } from './meters.ts';
import { hasRightIpv4Header, segmentCount, wireBytes, type Frame } from './offload.ts';
import { track } from './track.ts';

/** A connection, in one direction. */
export interface ConnectionFound {
  readonly slot: number;
  readonly reply: boolean;
}

export type ConnectingAction = Extract<Action, { op: 'nat' | 'related' | 'track' | 'count' }>;

/** A packet as it goes on. */
interface ConnectedFrame {
  readonly frame: Frame;
  /** Which it is to have, if there is one. */
  readonly dscp?: number | undefined;
}

interface Packet {
  readonly place: Place;
  readonly protocol: number;
  readonly tuple: ProtocolTuple;
}

/** Where packets came in, by their keys. */
interface PacketOrigins {
  /** The place in which the tuple of the packet is meaningful; undefined if there is none. */
  readonly placeOf: (key: FlowKey) => Place | undefined;
  readonly isFromTunnel: (key: FlowKey) => boolean;
}

export class Connector {
  readonly #store: ReferenceConnections;
  readonly #cache: FlowCache;
  readonly #meters = new Meters();
  readonly #placeOf: PacketOrigins['placeOf'];
  readonly #isFromTunnel: PacketOrigins['isFromTunnel'];
  readonly #clock: () => number;
  readonly #ways: BalancedWays;

  constructor(
    store: ReferenceConnections,
    cache: FlowCache,
    { placeOf, isFromTunnel }: PacketOrigins,
    clock: () => number,
  ) {
    this.#store = store;
    this.#ways = new BalancedWays(store.records);
    this.#cache = cache;
    this.#placeOf = placeOf;
    this.#isFromTunnel = isFromTunnel;
    this.#clock = clock;
  }

  /**
   * The connection of a packet with this key. If it is only tracked, a SYN may begin another one (`isAnotherSyn`). If it had
   * a choice of backends, a SYN between the same ends begins another one, with a choice of its own, when it is over or given up; and with
   * another port, when its backend has another conversation with these ends, as what comes from there may tell while nobody
   * has answered the SYN.
   */
  find(key: FlowKey, frame: Frame): ConnectionFound | undefined {
    if (this.#store.size === 0) return undefined;
    const packet = this.#packetOf(key);
    const found = packet && this.#ifOf(this.#store.find(packet.place, packet.protocol, packet.tuple), key);
    return found && this.#isPart(found, key, frame) ? found : undefined;
  }

  #isPart({ slot, reply }: ConnectionFound, key: FlowKey, { bytes }: Frame): boolean {
    const { records } = this.#store;
    if (records.protocol(slot) !== IP_TCP) return true;
    const isTracked = records.kind(slot) === 'tracked';
    if (!isTracked && records.pin(slot) === 0) return true;
    const l4 = l4Offset(bytes, key);
    if (l4 === 0) return true;
    const flags = bytes[l4 + TCP_FLAGS]!;
    if (isTracked) return !beginsTcp(flags) || !isAnotherSyn(records, slot, reply, getU32(bytes, l4 + TCP_SEQUENCE));
    if (!reply) {
      const mayGiveWay = OVER.has(records.state(slot)) || isTaken(records, slot);
      return !beginsTcp(flags) || !(mayGiveWay || isGivenUp(records, slot, getU32(bytes, l4 + TCP_SEQUENCE)));
    }
    const end = awaitedAnswer(records, slot);
    if (end === undefined || answersTcp(flags, getU32(bytes, l4 + TCP_ACKNOWLEDGMENT), end)) return true;
    const half = records.half(slot, true);
    records.writeHalf(slot, true, { ...half, seen: half.seen | SEEN_OTHER });
    return false;
  }

  /** The key by which its cached flow is found: with what the packet has to do with connections. */
  keyOf(connection: ConnectionFound | undefined, key: FlowKey, frame: Frame): FlowKey {
    const state = this.#stateOf(connection, key, frame);
    if (state === ctState.none) return key;
    const current = key.slice();
    writeNumber(current, fields.ct_state, state);
    return current;
  }

  #stateOf(connection: ConnectionFound | undefined, key: FlowKey, frame: Frame): number {
    if (connection) {
      if (this.#store.records.kind(connection.slot) === 'tracked')
        return connection.reply ? ctState.known_reply : ctState.known;
      return connection.reply ? ctState.reply : ctState.original;
    }
    if (this.#store.size > 0 && this.#beginsTaken(key, frame)) return ctState.taken;
    const place = isErrorKey(key) ? this.#placeOf(key) : undefined;
    if (place === undefined || !this.#store.hasAnyIn(place)) return ctState.none;
    const l4 = l4Offset(frame.bytes, key);
    if (l4 === 0) return ctState.error;
    return stateOfError(key, frame.bytes.subarray(l4), ({ protocol, ...tuple }) => {
      const handle = this.#store.find(place, protocol, tuple);
      return handle < 0 ? undefined : { kind: this.#store.records.kind(handle >> 1), reply: (handle & 1) === 1 };
    });
  }

  /** True if the packet begins a conversation with the tuple with which a connection goes on. */
  #beginsTaken(key: FlowKey, { bytes }: Frame): boolean {
    const packet = this.#packetOf(key);
    if (!packet || !this.#store.isTaken(packet.place, packet.protocol, packet.tuple)) return false;
    return packet.protocol !== IP_TCP || beginsTcpOf(key, bytes);
  }

  /** The flow of the connection's direction, if it covers the key. */
  flowOf({ slot, reply }: ConnectionFound, key: FlowKey): CacheEntry | undefined {
    const flow = this.#cache.byId(this.#store.records.flow(slot, reply));
    return flow && covers(flow.key, flow.mask, key) ? flow : undefined;
  }

  /** From now on, the direction takes this flow, unless it has one that still exists. */
  giveFlow({ slot, reply }: ConnectionFound, id: FlowId): void {
    const known = this.#store.records.flow(slot, reply);
    if (known !== id && !this.#cache.byId(known)) this.#store.records.setFlow(slot, reply, id);
  }

  /**
   * Begins a connection to the backend that a table chooses. Undefined if it cannot be opened here; or why it may not be
   * opened now.
   */
  balance(
    { table, owners }: Extract<Action, { op: 'balance' }>,
    key: FlowKey,
    frame: Frame,
  ): ConnectionFound | 'half_open_limit' | undefined {
    const packet = this.#packetOf(key);
    if (!packet || !mayBeBalanced(key, frame)) return undefined;
    const { records } = this.#store;
    const { place, tuple } = packet;
    const port = readNumber(key, fields.in_port) as PortNo;
    const slot = this.#store.openBalanced(table, owners, { place, port }, tuple, this.#clock());
    if (slot === REFUSED) return 'half_open_limit';
    if (slot < 0) return undefined;
    // Its first reply is spared a search.
    records.setFlow(slot, true, this.#ways.of(slot)!.flows[1]);
    return { slot, reply: false };
  }

  /**
   * For a packet that hit no flow: that of others of its kind, if the direction of its connection has none, and if that covers
   * it.
   */
  takeFlowOfOthers(connection: ConnectionFound, key: FlowKey): CacheEntry | undefined {
    const { slot, reply } = connection;
    if (this.#cache.byId(this.#store.records.flow(slot, reply))) return this.flowOf(connection, key);
    const flow = this.#cache.byId(this.#ways.of(slot)?.flows[Number(reply)] ?? 0);
    if (!flow || !covers(flow.key, flow.mask, key)) return undefined;
    this.#store.records.setFlow(slot, reply, flow.id);
    return flow;
  }

  /** True if the datapath may close it by itself, since a table chose its backend. */
  isBalanced({ slot }: ConnectionFound): boolean {
    return this.#store.records.table(slot) !== 0;
  }

  /** It was decided about a packet of this connection, so its direction has its flow by now. */
  noteFlow({ slot, reply }: ConnectionFound): void {
    this.#ways.note(slot, reply);
  }

  /**
   * The connection that begins with this packet; undefined if it cannot begin one, if it has the ends of another one that goes
   * on, or if there is no room. Then the packet goes on, untracked.
   */
  open(
    { replies, replyFlow, treatment }: Extract<Action, { op: 'track' }>,
    key: FlowKey,
    { bytes }: Frame,
  ): ConnectionFound | undefined {
    const packet = this.#packetOf(key);
    if (this.#store.limit === 0 || !packet || !mayBegin(key, bytes)) return undefined;
    const { place, tuple } = packet;
    const owner = this.#isFromTunnel(key)
      ? ownerOfPeer(readBytes(key, fields.tun_src))
      : readNumber(key, fields.in_port);
    const begins = packet.protocol === IP_TCP && beginsTcpOf(key, bytes);
    const handle = this.#store.track([place, replies], tuple, owner, this.#clock(), begins, treatment);
    const found = this.#ifOf(handle, key);
    if (found && !found.reply && replyFlow !== 0) this.#store.records.setFlow(found.slot, true, replyFlow);
    return found;
  }

  /** True if the packet is within the rate that a hook has set. Without a table of connections, there is none. */
  admits(meter: MeterName | undefined, frame: Frame): boolean {
    if (!meter || this.#store.limit === 0) return true;
    return this.#meters.take(meter, wireBytes(frame), segmentCount(frame), this.#clock());
  }

  /** @returns the frame as it goes on, or the reason why it does not */
  connect(
    action: ConnectingAction,
    frame: Frame,
    key: FlowKey,
    known: ConnectionFound | undefined,
  ): ConnectedFrame | DropReason {
    const { records } = this.#store;
    if (action.op === 'related') {
      const related = translateRelated(action, records, frame, key);
      return typeof related === 'string' ? related : { frame: related };
    }
    let found =
      action.op === 'nat' && action.generation !== 0 ? this.#named(action, key) : (known ?? this.find(key, frame));
    if (!found && action.op === 'track') {
      found = this.open(action, key, frame);
      if (!found) {
        const { treatment } = action;
        return this.admits(treatment?.meter, frame) ? { frame, dscp: treatment?.dscp } : 'hook_rate_limit';
      }
    }
    if (!found && action.op === 'count' && isErrorKey(key)) return { frame };
    const kind = action.op === 'nat' ? 'translated' : 'tracked';
    if (!found || records.kind(found.slot) !== kind) return 'connection_gone';
    const treatment = found.reply ? undefined : records.treatment(found.slot);
    if (!this.admits(treatment?.meter, frame)) return 'hook_rate_limit';
    track(records, found.slot, found.reply, frame.bytes, l4Offset(frame.bytes, key), this.#clock());
    const isTranslated = action.op === 'nat';
    const connected = isTranslated ? translateAddresses(records.read(found.slot), found.reply, frame, key) : frame;
    return { frame: connected, dscp: treatment?.dscp };
  }

  /** The connection that the action names, if the packet can belong to it. */
  #named({ slot, generation, reply }: Extract<Action, { op: 'nat' }>, key: FlowKey): ConnectionFound | undefined {
    const { records } = this.#store;
    if (slot >= records.count || records.generation(slot) !== generation) return undefined;
    return this.#ifOf(2 * slot + (reply ? 1 : 0), key);
  }

  #ifOf(handle: number, key: FlowKey): ConnectionFound | undefined {
    if (handle < 0) return undefined;
    const [slot, reply] = [handle >> 1, (handle & 1) === 1];
    return isOf(this.#store.records.read(slot), reply, key) ? { slot, reply } : undefined;
  }

  /** The tuple that identifies its connection; undefined for a packet that cannot belong to one. */
  #packetOf(key: FlowKey): Packet | undefined {
    const place = this.#placeOf(key);
    const tuple = place === undefined ? undefined : tupleOfKey(key);
    return tuple && { place: place!, protocol: tuple.protocol, tuple };
  }
}

/** True if the flow uses the packet's own connection, so that connections can share the flow. */
export function isOfConnections([first]: readonly Action[]): boolean {
  return first?.op === 'track' || first?.op === 'count' || (first?.op === 'nat' && first.generation === 0);
}

/**
 * Who owns the connections that begin with packets of this host: its number among so many, so that no host takes the room of
 * all others. Hosts with the same number share it.
 */
function ownerOfPeer(vtep: Uint8Array): number {
  return PEER_OWNERS.first + (vtep.reduce((number, byte) => number ^ byte, 0) % PEER_OWNERS.count);
}

/** True if it can be the first packet of a connection through a service. */
function mayBeBalanced(key: FlowKey, { bytes }: Frame): boolean {
  if (!hasRightIpv4Header(bytes, key)) return false;
  const protocol = readNumber(key, fields.ip_proto);
  return protocol === IP_TCP ? beginsTcpOf(key, bytes) : protocol === IP_UDP && l4Offset(bytes, key) !== 0;
}

/** True if this TCP segment begins a connection. */
function beginsTcpOf(key: FlowKey, frame: Uint8Array): boolean {
  const l4 = l4Offset(frame, key);
  return l4 !== 0 && beginsTcp(frame[l4 + TCP_FLAGS]!);
}

/**
 * True if it can be the first packet of a conversation that is seen here: of a ping, the request and not the reply; of TCP,
 * whatever comes, since it may be older than this record of it, but what answers a SYN or ends what is not known, and what
 * does not say what it is.
 */
function mayBegin(key: FlowKey, frame: Uint8Array): boolean {
  const protocol = readNumber(key, fields.ip_proto);
  const type = readNumber(key, fields.l4_src);
  if (protocol === IP_ICMP) return type === ICMP_ECHO_REQUEST;
  if (protocol === IP_ICMPV6) return type === ICMPV6_ECHO_REQUEST;
  if (protocol !== IP_TCP) return true;
  const l4 = l4Offset(frame, key);
  if (l4 === 0) return false;
  const flags = frame[l4 + TCP_FLAGS]!;
  return (flags & TCP_RST) === 0 && (flags & (TCP_SYN | TCP_ACK)) !== (TCP_SYN | TCP_ACK);
}
