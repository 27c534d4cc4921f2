/**
 * Actions: what the datapath can do with a frame. They are a small closed set of plain data, so that
 * every datapath (native, reference, perhaps one in the kernel later) can run them, and a decision can
 * be stored, compared and printed.
 *
 * A decision is a non-empty list that runs in order. It is exactly one of these: one or more
 * `output`/`encap` (each further one counts as a copy), possibly after actions that prepare the frame
 * for all of them, each at most once and in this order: `nat`, `related`, `track` or `count`, `mtu`, `route` or
 * `echo`, `clamp`; or a single `drop`, `refuse`, `consume` or `balance`.
 */
import { BALANCE_OWNERS } from './balancing.ts';
import { checkBudgets, type Budget } from './budget.ts';
import type { Place } from './connection.ts';
import type { PortNo, Vni } from './types.ts';
import type { DropReason } from './reason.ts';
import { reasonName, reasonNumber } from './reason.ts';
import { formatRefusal, refusalNumbers, refusalOf, type RefusalAnswer } from './refusal.ts';
import { dscpByte, dscpOf, readMeter, treatmentOf, treatmentTexts, writeMeter, type Treatment } from './treatment.ts';
import { formatIp, formatMac } from './types.ts';

export type Action =
  /** Sends the frame out of a local port. */
  | { readonly op: 'output'; readonly port: PortNo }
  /** Encapsulates the frame in VXLAN and sends it to the VTEP (16 bytes, IPv4-mapped or IPv6). */
  | { readonly op: 'encap'; readonly vni: Vni; readonly vtep: Uint8Array }
  | { readonly op: 'drop'; readonly reason: DropReason }
  /**
   * Drops the frame, and answers its sender through the port or the tunnel that it came by, if such a packet may be
   * answered and the port's rate of answers admits it.
   */
  | { readonly op: 'refuse'; readonly reason: DropReason; readonly answer: RefusalAnswer }
  /** weft itself takes the frame (an ARP request that it answers, for example). */
  | { readonly op: 'consume' }
  /**
   * Packets (or segments of a superframe) of more bytes than this, from the IP header on, do not go on as they are.
   * IPv4 without DF is cut into fragments; anything else causes an upcall, and is dropped as `too_big`.
   */
  | { readonly op: 'mtu'; readonly bytes: number }
  /** Rewrites the MAC addresses for the next hop, and decrements the TTL or hop limit (RFC 1812 §5.3.1). */
  | { readonly op: 'route'; readonly source: Uint8Array; readonly destination: Uint8Array }
  /**
   * Translates addresses and ports as the connection in that slot says, and counts the packet there. If the slot has
   * another connection by now, the frame is dropped (`connection_gone`). Generation 0 means the connection that the
   * packet itself belongs to.
   */
  | ConnectionAction<'nat'>
  /** The same for an ICMP error that quotes a packet of the connection; any other is dropped (`icmp_unrelated`). */
  | ConnectionAction<'related'>
  /**
   * Counts the packet in its connection, and opens one if it has none, and can have one. A packet of a translated connection
   * is dropped (`connection_gone`).
   */
  | {
      readonly op: 'track';
      /** The place where replies come in. */
      readonly replies: Place;
      /** The flow of connections that replies take; 0 means that it is decided when a reply comes. */
      readonly replyFlow: number;
      /** Of the connections that it opens, and of packets that have none. Others are treated as their connection is. */
      readonly treatment?: Treatment | undefined;
    }
  /** Counts the packet in its connection, which is only tracked. If it has none by now, it is dropped (`connection_gone`). */
  | { readonly op: 'count' }
  /**
   * Opens a connection to the backend that a balancing table chooses (`balancing.ts`), and does with the packet what the
   * flow of that connection does. The datapath knows that flow from others of the same client to the same backend; if not,
   * or if it cannot open the connection, there is an upcall. Only a cached flow can do this, and its mask has all of the
   * tuple but the source port.
   */
  | {
      readonly op: 'balance';
      /** The id of the table; not 0. */
      readonly table: number;
      /** Owners that share a quota, at least one and at most BALANCE_OWNERS. The connections belong to the first one. */
      readonly owners: readonly number[];
    }
  /** Turns an ICMP or ICMPv6 echo request into its reply (RFC 792, RFC 4443 §4.2). */
  | { readonly op: 'echo' }
  /**
   * Lowers the maximum segment size that a SYN announces to at most this (RFC 9293 §3.7.1). It is never raised, and
   * none is added: without one it is 536 or 1220 anyway.
   */
  | { readonly op: 'clamp'; readonly mss: number };

interface ConnectionAction<Op extends string> {
  readonly op: Op;
  readonly slot: number;
  readonly generation: number;
  /** True in the direction of the connection's replies. */
  readonly reply: boolean;
}

/** Translates by the connection that the packet belongs to. */
export const NAT_BY_TUPLE: Action = { op: 'nat', slot: 0, generation: 0, reply: false };

/** One object for each port, because a flood has as many outputs as its network has ports. */
const outputs: Action[] = [];

export function outputTo(port: PortNo): Action {
  return (outputs[port] ??= { op: 'output', port });
}

/** True if it uses a connection, in which case it comes before everything else. */
export function connects(action: Action): action is Extract<Action, { op: 'nat' | 'related' | 'track' | 'count' }> {
  return action.op === 'nat' || action.op === 'related' || action.op === 'track' || action.op === 'count';
}

/** The size in bytes of the largest packet that these actions let through; undefined if there is no limit. */
export function mtuOf(actions: readonly Action[]): number | undefined {
  const check = actions.find((action) => !connects(action));
  return check?.op === 'mtu' ? check.bytes : undefined;
}

/** Opcodes as the addon knows them (`native/action.h`, compared at load). */
export const opcodes = {
  output: 1,
  encap: 2,
  drop: 3,
  consume: 4,
  route: 5,
  echo: 6,
  mtu: 7,
  nat: 8,
  related: 9,
  clamp: 10,
  track: 11,
  refuse: 12,
  balance: 13,
  count: 14,
} as const;

/** The places that pack opcodes into bits. */
export function opcodeBudgets(codes: Readonly<Record<string, number>>): Budget[] {
  const widen = 'the opcode of an encoded action (flow/action.ts, and Action in native/action.h): it is one byte';
  return [{ what: 'opcodes', needed: Math.max(...Object.values(codes)), most: 255, widen }];
}

checkBudgets(opcodeBudgets(opcodes));

/**
 * Bytes of one encoded action: op (u8), 3 zero bytes (or a DSCP and a mark), argument (u32, little-endian), address (16: a VTEP,
 * two MACs, a generation and a direction, a flow and a meter, the address that an ICMP error comes from, or four owners).
 */
export const ACTION_BYTES = 24;

/** The smallest `mtu`, which every IPv4 network carries (RFC 791). */
export const LEAST_MTU = 68;

let encoded = new Uint8Array(64 * ACTION_BYTES);
let encodedView = new DataView(encoded.buffer);

/** Encodes for the addon, which copies the result. It is valid until the next call. */
export function encodeActions(actions: readonly Action[]): Uint8Array {
  const length = actions.length * ACTION_BYTES;
  if (length > encoded.length) {
    encoded = new Uint8Array(2 * length);
    encodedView = new DataView(encoded.buffer);
  }
  const bytes = encoded.subarray(0, length);
  bytes.fill(0);
  for (let i = 0; i < actions.length; i++) encodeAction(actions[i]!, bytes, encodedView, i * ACTION_BYTES);
  return bytes;
}

function encodeAction(action: Action, bytes: Uint8Array, view: DataView, at: number): void {
  view.setUint8(at, opcodes[action.op]);
  switch (action.op) {
    case 'output':
      return view.setUint32(at + 4, action.port, true);
    case 'encap':
      bytes.set(action.vtep, at + 8);
      return view.setUint32(at + 4, action.vni, true);
    case 'drop':
      return view.setUint32(at + 4, reasonNumber(action.reason), true);
    case 'refuse': {
      const { reason, answer } = action;
      if (answer.kind !== 'tcp_reset') bytes.set(answer.from, at + 8);
      view.setUint8(at + 5, refusalNumbers[answer.kind]);
      return view.setUint8(at + 4, reasonNumber(reason));
    }
    case 'mtu':
      return view.setUint32(at + 4, action.bytes, true);
    case 'track':
      view.setUint32(at + 8, action.replyFlow, true);
      view.setUint8(at + 1, dscpByte(action.treatment));
      view.setUint16(at + 2, action.treatment?.mark ?? 0, true);
      writeMeter(view, at + 12, action.treatment?.meter);
      return view.setUint32(at + 4, action.replies, true);
    case 'nat':
    case 'related':
      view.setUint32(at + 8, action.generation, true);
      view.setUint8(at + 12, action.reply ? 1 : 0);
      return view.setUint32(at + 4, action.slot, true);
    case 'clamp':
      return view.setUint32(at + 4, action.mss, true);
    case 'balance':
      action.owners.forEach((owner, n) => view.setUint32(at + 8 + 4 * n, owner, true));
      return view.setUint32(at + 4, action.table, true);
    case 'consume':
    case 'count':
    case 'echo':
      return;
    case 'route':
      bytes.set(action.source, at + 8);
      return bytes.set(action.destination, at + 14);
    default:
      return action satisfies never;
  }
}

/** The inverse of `encodeActions`. @throws RangeError for an unknown opcode. */
export function decodeActions(bytes: Uint8Array): Action[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const actions: Action[] = [];
  for (let at = 0; at < bytes.byteLength; at += ACTION_BYTES) {
    const argument = view.getUint32(at + 4, true);
    const op = view.getUint8(at);
    if (op === opcodes.output) actions.push({ op: 'output', port: argument as PortNo });
    else if (op === opcodes.encap)
      actions.push({ op: 'encap', vni: argument as Vni, vtep: bytes.slice(at + 8, at + 24) });
    else if (op === opcodes.drop) actions.push({ op: 'drop', reason: reasonName(argument) });
    else if (op === opcodes.refuse)
      actions.push({
        op: 'refuse',
        reason: reasonName(argument & 0xff),
        answer: refusalOf(argument >>> 8, bytes.slice(at + 8, at + 24)),
      });
    else if (op === opcodes.consume) actions.push({ op: 'consume' });
    else if (op === opcodes.count) actions.push({ op: 'count' });
    else if (op === opcodes.echo) actions.push({ op: 'echo' });
    else if (op === opcodes.mtu) actions.push({ op: 'mtu', bytes: argument });
    else if (op === opcodes.track) {
      const mark = view.getUint16(at + 2, true);
      const treatment = treatmentOf(mark, dscpOf(view.getUint8(at + 1)), readMeter(view, at + 12));
      const replyFlow = view.getUint32(at + 8, true);
      actions.push({ op: 'track', replies: argument as Place, replyFlow, ...(treatment && { treatment }) });
    } else if (op === opcodes.nat || op === opcodes.related)
      actions.push({
        op: op === opcodes.nat ? 'nat' : 'related',
        slot: argument,
        generation: view.getUint32(at + 8, true),
        reply: view.getUint8(at + 12) !== 0,
      });
    else if (op === opcodes.balance) {
      const owners = Array.from({ length: BALANCE_OWNERS }, (_, n) => view.getUint32(at + 8 + 4 * n, true));
      actions.push({ op: 'balance', table: argument, owners: owners.filter((owner) => owner !== 0) });
    } else if (op === opcodes.clamp) actions.push({ op: 'clamp', mss: argument });
    else if (op === opcodes.route)
      actions.push({ op: 'route', source: bytes.slice(at + 8, at + 14), destination: bytes.slice(at + 14, at + 20) });
    else throw new RangeError(`opcode ${op} does not exist`);
  }
  return actions;
}

/** As printed by `weft trace` and `weft flows`. `portName` turns numbers into names. */
export function formatActions(actions: readonly Action[], portName: (port: PortNo) => string = String): string {
  return actions
    .map((action) => {
      switch (action.op) {
        case 'output':
          return `output(${portName(action.port)})`;
        case 'encap':
          return `encap(vni=${action.vni},vtep=${formatIp(action.vtep)})`;
        case 'drop':
          return `drop(${action.reason})`;
        case 'refuse':
          return `refuse(${action.reason},${formatRefusal(action.answer)})`;
        case 'consume':
        case 'count':
        case 'echo':
          return action.op;
        case 'nat':
        case 'related':
          if (action.generation === 0) return action.op;
          return `${action.op}(connection=${action.slot}${action.reply ? ',reply' : ''})`;
        case 'balance':
          return `balance(table=${action.table})`;
        case 'track': {
          const replies = action.replyFlow === 0 ? [] : [`replies=flow ${action.replyFlow}`];
          const parts = [...replies, ...treatmentTexts(action.treatment)];
          return parts.length === 0 ? 'track' : `track(${parts.join(',')})`;
        }
        case 'mtu':
          return `mtu(${action.bytes})`;
        case 'clamp':
          return `clamp(mss=${action.mss})`;
        case 'route':
          return `route(src=${formatMac(action.source)},dst=${formatMac(action.destination)})`;
        default:
          return action satisfies never;
      }
    })
    .join(', ');
}
