/**
 * Changes to a frame before it is sent: routing (RFC 1812 §5.3.1), turning an echo request into its
 * reply (RFC 792, RFC 4443 §4.2), and the segment size that TCP announces (RFC 9293 §3.7.1). They are
 * made in a copy. Fields that a frame does not have are ignored, so any action is harmless on any
 * frame. native/rewrite.h does the same.
 */
import type { Action } from '../../flow/action.ts';
import { extract } from '../../flow/extract.ts';
import { fields, FRAG_LATER } from '../../flow/fields.ts';
import { emptyKey, readNumber, writeNumber, type FlowKey } from '../../flow/key.ts';
import { getU16, setU16 } from '../../wire/bytes.ts';
import { checksum, onesSum, setIcmpChecksum } from '../../wire/checksum.ts';
import { ETH_IPV4, ETH_IPV6 } from '../../wire/ethernet.ts';
import { ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REPLY, ICMPV6_ECHO_REQUEST } from '../../wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP } from '../../wire/ipv4.ts';
import { TCP_HEADER_BYTES, TCP_SYN } from '../../wire/l4.ts';
import { l3Offset, NEEDS_CSUM, type Frame } from './offload.ts';

const ECHO_TTL = 64;

/** The frame as the actions after `action` get it; undefined for an action that rewrites nothing. */
export function rewrite(action: Action, frame: Frame, key: FlowKey): Frame | undefined {
  switch (action.op) {
    case 'route':
      return { ...frame, bytes: route(action, frame.bytes.slice(), key) };
    case 'echo':
      return { ...frame, bytes: echo(frame.bytes.slice(), key) };
    case 'clamp':
      return { ...frame, bytes: clamp(action.mss, frame) };
    default:
      return undefined;
  }
}

/** Sets the MAC addresses of the next hop, and decrements TTL or hop limit unless it is 0. */
function route(to: Extract<Action, { op: 'route' }>, frame: Uint8Array, key: FlowKey): Uint8Array {
  frame.set(to.destination, 0);
  frame.set(to.source, 6);
  if (readNumber(key, fields.ip_ttl) === 0) return frame;
  const l3 = l3Offset(frame);
  switch (readNumber(key, fields.eth_type)) {
    case ETH_IPV4: {
      frame[l3 + 8]!--;
      const sum = getU16(frame, l3 + 10) + 0x100; // RFC 1141
      setU16(frame, l3 + 10, (sum + (sum >= 0xffff ? 1 : 0)) & 0xffff);
      return frame;
    }
    case ETH_IPV6:
      frame[l3 + 7]!--;
      return frame;
    default:
      return frame;
  }
}

/**
 * Sets the DSCP (RFC 2474), and leaves ECN as it is, also in the key. A wrong checksum stays wrong (RFC 1624). Other protocols than IP
 * have none.
 */
export function withDscp(frame: Frame, key: FlowKey, dscp: number): { readonly frame: Frame; readonly key: FlowKey } {
  const type = readNumber(key, fields.eth_type);
  if (type !== ETH_IPV4 && type !== ETH_IPV6) return { frame, key };
  const bytes = frame.bytes.slice();
  const l3 = l3Offset(bytes);
  const tos = (dscp << 2) | (readNumber(key, fields.ip_tos) & 3);
  if (type === ETH_IPV6) {
    bytes[l3] = (bytes[l3]! & 0xf0) | (tos >>> 4);
    bytes[l3 + 1] = (bytes[l3 + 1]! & 0x0f) | ((tos & 0x0f) << 4);
  } else {
    const words = [~getU16(bytes, l3 + 10), ~getU16(bytes, l3)];
    bytes[l3 + 1] = tos;
    setU16(bytes, l3 + 10, ~sumOf([...words, getU16(bytes, l3)]) & 0xffff);
  }
  const treated = key.slice();
  writeNumber(treated, fields.ip_tos, tos);
  return { frame: { ...frame, bytes }, key: treated };
}

/**
 * Turns an echo request into its reply, with a new TTL. The ICMP checksum changes by the change of the
 * type (RFC 1624); that of ICMPv6 covers the addresses, but their order does not matter. So each
 * fragment of a request becomes a fragment of the reply, independently: the first one has the type, and
 * a later one belongs to a request if `key`, which has the values of its first one, says so.
 */
function echo(frame: Uint8Array, key: FlowKey): Uint8Array {
  const own = emptyKey();
  const extracted = extract(frame, own);
  if (!extracted.ok) return frame;
  const isLater = readNumber(own, fields.ip_frag) === FRAG_LATER;
  const of = isLater ? key : own;
  const isIp4 = readNumber(own, fields.eth_type) === ETH_IPV4;
  const [protocol, request, reply] = isIp4
    ? [IP_ICMP, ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY]
    : [IP_ICMPV6, ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY];
  const isRequest = readNumber(of, fields.ip_proto) === protocol && readNumber(of, fields.l4_src) === request;
  if (!isRequest || (extracted.l4Offset === 0 && !isLater)) return frame;

  const l3 = l3Offset(frame);
  const icmp = extracted.l4Offset;
  swap(frame, 0, 6);
  if (isIp4) swap(frame, l3 + 12, 4);
  else swap(frame, l3 + 8, 16);
  if (!isLater) {
    const before = getU16(frame, icmp);
    frame[icmp] = reply;
    const words = [~getU16(frame, icmp + 2), ~before, getU16(frame, icmp)];
    const sum = ~sumOf(words) & 0xffff;
    if (isIp4) setIcmpChecksum(frame.subarray(icmp), sum);
    else setU16(frame, icmp + 2, sum);
  }
  if (isIp4) {
    frame[l3 + 8] = ECHO_TTL;
    setU16(frame, l3 + 10, 0);
    setU16(frame, l3 + 10, checksum(frame.subarray(l3, l3 + (frame[l3]! & 15) * 4)));
  } else {
    frame[l3 + 7] = ECHO_TTL;
  }
  return frame;
}

/**
 * Makes a SYN announce segments no larger than `mss`. One that announces none is left unchanged, and
 * options are read only as far as they are well-formed.
 */
function clamp(mss: number, { bytes, offload }: Frame): Uint8Array {
  const [END, NOP, MSS, MSS_BYTES] = [0, 1, 2, 4];
  const key = emptyKey();
  const extracted = extract(bytes, key);
  if (!extracted.ok || readNumber(key, fields.ip_proto) !== IP_TCP || extracted.l4Offset === 0) return bytes;
  if ((bytes[extracted.l4Offset + 13]! & TCP_SYN) === 0) return bytes;
  const copy = bytes.slice();
  const tcp = copy.subarray(extracted.l4Offset);
  const end = (tcp[12]! >>> 4) * 4;
  for (let at = TCP_HEADER_BYTES; at < end && tcp[at] !== END; ) {
    if (tcp[at] === NOP) {
      at++;
      continue;
    }
    const size = tcp[at + 1]!;
    if (at + 1 >= end || size < 2 || at + size > end) break;
    if (tcp[at] === MSS && size === MSS_BYTES) lowerMss(tcp, at + 2, mss, (offload.flags & NEEDS_CSUM) !== 0);
    at += size;
  }
  return copy;
}

/**
 * Lowers the value of an option at `at`, and adjusts the checksum (RFC 1624); an unfinished checksum
 * covers no option. At an odd offset the words of the sum are different ones.
 */
function lowerMss(tcp: Uint8Array, at: number, mss: number, isUnfinished: boolean): void {
  const before = getU16(tcp, at);
  if (before <= mss) return;
  setU16(tcp, at, mss);
  if (isUnfinished) return;
  const word = (value: number): number => (at % 2 === 1 ? ((value & 0xff) << 8) | (value >>> 8) : value);
  setU16(tcp, 16, ~sumOf([~getU16(tcp, 16), ~word(before), word(mss)]) & 0xffff);
}

/** The ones' complement sum of 16-bit words. */
function sumOf(words: readonly number[]): number {
  return onesSum(Uint8Array.from(words.flatMap((word) => [word >>> 8, word])));
}

/** Exchanges two neighboring fields of `size` bytes. */
function swap(frame: Uint8Array, at: number, size: number): void {
  const first = frame.slice(at, at + size);
  frame.copyWithin(at, at + size, at + 2 * size);
  frame.set(first, at + size);
}
