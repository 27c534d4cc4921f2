/**
 * Merges consecutive TCP segments of a flow, and UDP datagrams of one size, into a superframe. The
 * rules, with the reasons, are in native/coalesce.h; this is the plain version, over the frames of
 * one burst.
 */
import { FRAG_NONE, fields } from '../../flow/fields.ts';
import { readNumber, type FlowKey } from '../../flow/key.ts';
import { sameBytes } from '../../flow/types.ts';
import { concat, getU16, getU32, setU16 } from '../../wire/bytes.ts';
import { checksum, onesSum } from '../../wire/checksum.ts';
import { ETH_HEADER_BYTES, ETH_IPV4 } from '../../wire/ethernet.ts';
import { IP_TCP, IP_UDP, IPV4_HEADER_BYTES } from '../../wire/ipv4.ts';
import { IPV6_HEADER_BYTES } from '../../wire/ipv6.ts';
import {
  DATA_VALID,
  GSO_NONE,
  GSO_TCP4,
  GSO_TCP6,
  GSO_UDP,
  NEEDS_CSUM,
  TCP_CSUM_OFFSET,
  UDP_CSUM_OFFSET,
  payloadOffset,
  pseudoSumOf,
  type Frame,
} from './offload.ts';

/** The most superframes that are open at a time. */
const OPEN_SUPERFRAMES = 8;
/** The most frames in one superframe. */
const SUPERFRAME_FRAMES = 64;
/** So that a superframe is at most MAX_FRAME_BYTES, also with IPv6. */
const MAX_IP_BYTES = 65535;
const L3 = ETH_HEADER_BYTES;
const DONT_FRAGMENT = 0x4000;
const PSH = 0x08;
const ACK = 0x10;

/** A frame that came in, with its key and the offset of its L4 header (0: none). */
export interface Arrived extends Frame {
  readonly key: FlowKey;
  readonly l4: number;
}

/** A part of a burst that is looked up at once: a frame that came in, or several merged into one. */
export interface Arrival extends Frame {
  readonly key: FlowKey;
  /** How many frames came in. */
  readonly frames: number;
  /** Their bytes together. */
  readonly receivedBytes: number;
}

/** A TCP or UDP frame without VLAN tag, options, extension headers or fragments. */
interface Plain extends Arrived {
  readonly tcp: boolean;
  readonly v4: boolean;
  readonly payloadAt: number;
  readonly payloadBytes: number;
}

/** A superframe in progress: frames that continue each other. */
type Open = Plain[];

/** What becomes of a burst, in the order in which it is forwarded. */
export function coalesce(burst: readonly Arrived[]): Arrival[] {
  if (burst.length === 1) return [alone(burst[0]!)];
  const arrivals: Arrival[] = [];
  const open: Open[] = [];
  const emit = (index: number): void => {
    const [frames] = open.splice(index, 1);
    arrivals.push(frames!.length === 1 ? alone(frames![0]!) : together(frames!));
  };
  for (const frame of burst) {
    const plain = asPlain(frame);
    if (!plain) {
      while (open.length > 0) emit(0);
      arrivals.push(alone(frame));
      continue;
    }
    const index = open.findIndex(([first]) => sameFlow(first!.key, plain.key));
    const mergeable = mayMerge(plain);
    if (mergeable && index >= 0 && continues(open[index]!, plain)) {
      const frames = open[index]!;
      frames.push(plain);
      if (isPushed(plain) || plain.payloadBytes < frames[0]!.payloadBytes) emit(index);
      continue;
    }
    if (index >= 0) emit(index);
    if (!mergeable || isPushed(plain)) {
      arrivals.push(alone(plain));
      continue;
    }
    if (open.length === OPEN_SUPERFRAMES) emit(0);
    open.push([plain]);
  }
  while (open.length > 0) emit(0);
  return arrivals;
}

function asPlain(frame: Arrived): Plain | undefined {
  const { key, l4, bytes } = frame;
  const protocol = key[fields.ip_proto.offset];
  if ((protocol !== IP_TCP && protocol !== IP_UDP) || l4 === 0) return undefined;
  if (readNumber(key, fields.vlan_tci) !== 0 || key[fields.ip_frag.offset] !== FRAG_NONE) return undefined;
  const v4 = readNumber(key, fields.eth_type) === ETH_IPV4;
  if (l4 !== L3 + (v4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES)) return undefined;
  if (v4 && (getU16(bytes, L3 + 6) & ~DONT_FRAGMENT) !== 0) return undefined;
  const tcp = protocol === IP_TCP;
  const payloadAt = payloadOffset(bytes, l4, tcp);
  return { ...frame, tcp, v4, payloadAt, payloadBytes: bytes.length - payloadAt };
}

/** Would segmenting a superframe of such frames give this one back? */
function mayMerge({ bytes, offload, tcp, v4, l4, payloadBytes }: Plain): boolean {
  if (offload.gsoType !== GSO_NONE || payloadBytes === 0) return false;
  const csumOffset = tcp ? TCP_CSUM_OFFSET : UDP_CSUM_OFFSET;
  if (tcp) {
    if ((bytes[l4 + 12]! & 0x0f) !== 0 || (bytes[l4 + 13]! & ~PSH) !== ACK) return false;
  } else if (getU16(bytes, l4 + 4) !== bytes.length - l4 || getU16(bytes, l4 + csumOffset) === 0) {
    return false;
  }
  if (v4 && onesSum(bytes.subarray(L3, l4)) !== 0xffff) return false;
  if ((offload.flags & NEEDS_CSUM) !== 0) return offload.csumStart === l4 && offload.csumOffset === csumOffset;
  if ((offload.flags & DATA_VALID) !== 0) return true;
  const pseudo = pseudoSumOf(bytes, L3, tcp ? IP_TCP : IP_UDP, bytes.length - l4);
  return onesSum(bytes.subarray(l4), pseudo) === 0xffff;
}

/** Compares the flows of two frames: their keys without TOS and TTL. */
function sameFlow(a: FlowKey, b: FlowKey): boolean {
  const [tos, ttl] = [fields.ip_tos.offset, fields.ip_ttl.offset];
  return a.every((byte, at) => byte === b[at] || at === tos || at === ttl);
}

function continues(open: Open, next: Plain): boolean {
  const first = open[0]!;
  const [a, b] = [first.bytes, next.bytes];
  if (!sameBytes(first.key, next.key) || open.length === SUPERFRAME_FRAMES) return false;
  if (next.payloadAt !== first.payloadAt || next.payloadBytes > first.payloadBytes) return false;
  // All but the last are as long as the first.
  const payloadBytes = open.length * first.payloadBytes;
  const ipBytes = next.payloadAt + payloadBytes + next.payloadBytes - L3;
  if (ipBytes > MAX_IP_BYTES) return false;
  if (next.v4) {
    const dontFragment = getU16(a, L3 + 6);
    if (dontFragment !== getU16(b, L3 + 6)) return false;
    const expectedId = (getU16(a, L3 + 4) + open.length) & 0xffff;
    if (dontFragment === 0 && getU16(b, L3 + 4) !== expectedId) return false;
  } else if (getU32(a, L3) !== getU32(b, L3)) {
    return false; // traffic class and flow label
  }
  if (!next.tcp) return true;
  const { l4 } = next;
  const same = (at: number, bytes: number): boolean =>
    sameBytes(a.subarray(l4 + at, l4 + at + bytes), b.subarray(l4 + at, l4 + at + bytes));
  const expectedSeq = (getU32(a, l4 + 4) + payloadBytes) >>> 0;
  const optionBytes = next.payloadAt - l4 - 20;
  // Acknowledgment; window; urgent pointer and options.
  return getU32(b, l4 + 4) === expectedSeq && same(8, 4) && same(14, 2) && same(18, 2 + optionBytes);
}

function isPushed({ tcp, bytes, l4 }: Plain): boolean {
  return tcp && (bytes[l4 + 13]! & PSH) !== 0;
}

function alone({ bytes, offload, key }: Arrived): Arrival {
  const passed = { ...offload, flags: offload.flags & NEEDS_CSUM };
  return { bytes, offload: passed, key, frames: 1, receivedBytes: bytes.length };
}

function together(frames: Open): Arrival {
  const [first, last] = [frames[0]!, frames.at(-1)!];
  const { key, tcp, v4, l4 } = first;
  const bytes = concat(first.bytes, ...frames.slice(1).map(({ bytes, payloadAt }) => bytes.subarray(payloadAt)));
  const l4Bytes = bytes.length - l4;
  if (v4) {
    setU16(bytes, L3 + 2, bytes.length - L3);
    setU16(bytes, L3 + 10, 0);
    setU16(bytes, L3 + 10, checksum(bytes.subarray(L3, l4)));
  } else {
    setU16(bytes, L3 + 4, l4Bytes);
  }
  if (!tcp) setU16(bytes, l4 + 4, l4Bytes);
  else if (isPushed(last)) bytes[l4 + 13]! |= PSH;
  const csumOffset = tcp ? TCP_CSUM_OFFSET : UDP_CSUM_OFFSET;
  setU16(bytes, l4 + csumOffset, pseudoSumOf(bytes, L3, tcp ? IP_TCP : IP_UDP, l4Bytes));
  const gsoType = !tcp ? GSO_UDP : v4 ? GSO_TCP4 : GSO_TCP6;
  const offload = { flags: NEEDS_CSUM, gsoType, gsoSize: first.payloadBytes, csumStart: l4, csumOffset };
  const receivedBytes = frames.reduce((sum, frame) => sum + frame.bytes.length, 0);
  return { bytes, offload, key, frames: frames.length, receivedBytes };
}
