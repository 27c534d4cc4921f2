/**
 * From a frame to its flow key, in the order of the wire:
 *
 *   1. Ethernet and at most one VLAN tag
 *   2. ARP, or
 *   3. IPv4, or 4. IPv6 with a bounded walk over its extension headers
 *   5. the L4 header, unless this is a later fragment (the datapath fills in the protocol
 *      and ports of the first one)
 *   6. neighbor discovery
 *
 * A frame is either what its headers say, or it has a drop reason: there is no partial key.
 * `native/extract.cc` follows exactly the same rules; the differential test compares the two.
 * Offsets are read in place, because this runs for every frame of the reference datapath.
 * Checksums are not verified here: the receiving host does that.
 */
import { FRAG_FIRST, FRAG_LATER, FRAG_NONE, KEY_BYTES, fields } from './fields.ts';
import type { DropReason } from './reason.ts';
import { ARP_BYTES } from '../wire/arp.ts';
import { ETH_ARP, ETH_HEADER_BYTES, ETH_IPV4, ETH_IPV6, ETH_QINQ, ETH_TYPE_MIN, ETH_VLAN } from '../wire/ethernet.ts';
import { ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REPLY, ICMPV6_ECHO_REQUEST } from '../wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6, IP_SCTP, IP_TCP, IP_UDP, IPV4_HEADER_BYTES } from '../wire/ipv4.ts';
import {
  EXT_AUTHENTICATION,
  EXT_DESTINATION,
  EXT_FRAGMENT,
  EXT_HOP_BY_HOP,
  EXT_MOBILITY,
  EXT_ROUTING,
  IPV6_HEADER_BYTES,
} from '../wire/ipv6.ts';
import {
  ND_HOP_LIMIT,
  ND_NEIGHBOR_ADVERTISEMENT,
  ND_NEIGHBOR_SOLICITATION,
  ND_OPTION_SOURCE_LLA,
  ND_OPTION_TARGET_LLA,
  ND_REDIRECT,
  ND_ROUTER_ADVERTISEMENT,
  ND_ROUTER_SOLICITATION,
} from '../wire/nd.ts';

/** The longest frame that weft carries: an IP packet of any size behind a VLAN tag. */
export const MAX_FRAME_BYTES = 18 + 65535;
/** Extension headers that are accepted; a packet with more is dropped. */
const MAX_EXTENSIONS = 8;
/** The value of `eth_type` for frames with an 802.3 length. */
export const ETH_TYPE_LENGTH = 0x05ff;

export type Extracted =
  | {
      readonly ok: true;
      /** Without anything behind the IP packet (padding, trailers). */
      readonly lengthBytes: number;
      /** Where the L4 header begins; 0 if none was read. */
      readonly l4Offset: number;
    }
  | { readonly ok: false; readonly reason: DropReason };

/** Which part of its datagram a fragment is, in bytes. */
export interface FragmentPart {
  readonly id: number;
  readonly at: number;
  /** Greater than 0. */
  readonly bytes: number;
  readonly more: boolean;
}

/** Of header and payload together. */
const LARGEST_PACKET_BYTES = 65_535;
const TCP_HEADER_BYTES = 20;
const SCTP_HEADER_BYTES = 12;

const ETH_DST = fields.eth_dst.offset;
const ETH_TYPE = fields.eth_type.offset;
const VLAN_TCI = fields.vlan_tci.offset;
const IP_SRC = fields.ip_src.offset;
const IP_DST = fields.ip_dst.offset;
const IP_PROTO = fields.ip_proto.offset;
const IP_TOS = fields.ip_tos.offset;
const IP_TTL = fields.ip_ttl.offset;
const IP_FRAG = fields.ip_frag.offset;
const L4_SRC = fields.l4_src.offset;
const L4_DST = fields.l4_dst.offset;
const ND_LLA = fields.nd_lla.offset;
const ICMP_ID = fields.icmp_id.offset;
const ND_TARGET = fields.nd_target.offset;

/**
 * Fills `key` (KEY_BYTES) from `eth_dst` on. The caller fills in `in_port`, `tun_vni` and
 * `tun_src`, which come before that and are not in the frame. After a failure the contents
 * of the key are meaningless.
 */
export function extract(frame: Uint8Array, key: Uint8Array): Extracted {
  if (frame.length < ETH_HEADER_BYTES) return failed('frame_too_short');
  if (frame.length > MAX_FRAME_BYTES) return failed('frame_too_long');
  key.fill(0, ETH_DST, KEY_BYTES);
  copy(frame, 0, key, ETH_DST, 12);

  let type = u16(frame, 12);
  let at = ETH_HEADER_BYTES;
  if (type === ETH_VLAN || type === ETH_QINQ) {
    if (frame.length < at + 4) return failed('frame_too_short');
    key[VLAN_TCI] = frame[at]! | 0x10;
    key[VLAN_TCI + 1] = frame[at + 1]!;
    type = u16(frame, at + 2);
    at += 4;
  }
  if (type < ETH_TYPE_MIN) type = ETH_TYPE_LENGTH;
  key[ETH_TYPE] = type >>> 8;
  key[ETH_TYPE + 1] = type;

  switch (type) {
    case ETH_ARP:
      return arp(frame, at, key);
    case ETH_IPV4:
      return ipv4(frame, at, key);
    case ETH_IPV6:
      return ipv6(frame, at, key);
    default:
      return { ok: true, lengthBytes: frame.length, l4Offset: 0 };
  }
}

/** ARP for IPv4 over Ethernet only; an operation over 255 reads as 0. */
function arp(frame: Uint8Array, at: number, key: Uint8Array): Extracted {
  const fits = frame.length >= at + ARP_BYTES;
  if (!fits || u16(frame, at) !== 1 || u16(frame, at + 2) !== ETH_IPV4 || frame[at + 4] !== 6 || frame[at + 5] !== 4) {
    return failed('arp_malformed');
  }
  if (frame[at + 6] === 0) key[IP_PROTO] = frame[at + 7]!;
  copy(frame, at + 8, key, ND_LLA, 6);
  copyMapped(frame, at + 14, key, IP_SRC);
  copyMapped(frame, at + 24, key, IP_DST);
  return { ok: true, lengthBytes: frame.length, l4Offset: 0 };
}

function ipv4(frame: Uint8Array, at: number, key: Uint8Array): Extracted {
  const present = frame.length - at;
  if (present < IPV4_HEADER_BYTES || frame[at]! >>> 4 !== 4) return failed('ipv4_malformed');
  const headerBytes = (frame[at]! & 15) * 4;
  const totalBytes = u16(frame, at + 2);
  if (headerBytes < IPV4_HEADER_BYTES || totalBytes < headerBytes || totalBytes > present) {
    return failed('ipv4_malformed');
  }
  key[IP_TOS] = frame[at + 1]!;
  key[IP_TTL] = frame[at + 8]!;
  key[IP_PROTO] = frame[at + 9]!;
  copyMapped(frame, at + 12, key, IP_SRC);
  copyMapped(frame, at + 16, key, IP_DST);
  const bad = fragment(ipv4Part(frame, at), headerBytes, frame[at + 9]!, key);
  return bad ?? l4(frame, at + headerBytes, at + totalBytes, key, false);
}

function ipv6(frame: Uint8Array, at: number, key: Uint8Array): Extracted {
  const present = frame.length - at;
  if (present < IPV6_HEADER_BYTES || frame[at]! >>> 4 !== 6) return failed('ipv6_malformed');
  const payloadBytes = u16(frame, at + 4);
  let next = frame[at + 6]!;
  if (IPV6_HEADER_BYTES + payloadBytes > present) return failed('ipv6_malformed');
  // RFC 2675: the length is in an option. A packet of that length fits into no frame.
  if (payloadBytes === 0 && next === EXT_HOP_BY_HOP) return failed('ipv6_malformed');
  key[IP_TOS] = u16(frame, at) >>> 4;
  key[IP_TTL] = frame[at + 7]!;
  // IPv4 addresses look like this in a key, so an IPv6 packet with such an address would be taken
  // for IPv4.
  if (isMapped(frame, at + 8) || isMapped(frame, at + 24)) return failed('ipv4_mapped');
  copy(frame, at + 8, key, IP_SRC, 32);

  const end = at + IPV6_HEADER_BYTES + payloadBytes;
  const first = at + IPV6_HEADER_BYTES;
  let header = first;
  let isFragmented = false;
  for (let walked = 0; isExtension(next); walked++) {
    // RFC 8200 §4.1
    const isMisplaced = (next === EXT_HOP_BY_HOP && walked > 0) || (next === EXT_FRAGMENT && isFragmented);
    if (walked === MAX_EXTENSIONS || isMisplaced) return failed('ipv6_ext_headers');
    const sizeBytes = end - header < 8 ? Infinity : extensionBytes(next, frame[header + 1]!);
    if (sizeBytes > end - header) return failed(key[IP_FRAG] === FRAG_FIRST ? 'fragment_tiny' : 'ipv6_ext_headers');
    if (next === EXT_FRAGMENT) {
      isFragmented = true;
      const bad = fragment(ipv6Part(frame, header, end), header - first, frame[header]!, key);
      if (bad) return bad;
    }
    next = frame[header]!;
    header += sizeBytes;
    // What follows comes from the middle of a packet; it is not a header.
    if (key[IP_FRAG] === FRAG_LATER) break;
  }
  key[IP_PROTO] = next;
  return l4(frame, header, end, key, true);
}

/** Where the headers behind the extension headers begin, of a packet that can be extracted. @param at of its IPv6 header */
export function ip6L4Offset(frame: Uint8Array, at: number): number {
  let header = at + IPV6_HEADER_BYTES;
  for (let next = frame[at + 6]!; isExtension(next) && header + 1 < frame.length; ) {
    const sizeBytes = extensionBytes(next, frame[header + 1]!);
    next = frame[header]!;
    header += sizeBytes;
  }
  return header;
}

function isExtension(header: number): boolean {
  switch (header) {
    case EXT_HOP_BY_HOP:
    case EXT_ROUTING:
    case EXT_FRAGMENT:
    case EXT_AUTHENTICATION:
    case EXT_DESTINATION:
    case EXT_MOBILITY:
      return true;
    default:
      return false;
  }
}

/** RFC 8200 §4, RFC 4302 §2.2 (AH counts in units of 4 bytes, minus 2); never below 8. */
function extensionBytes(header: number, length: number): number {
  if (header === EXT_FRAGMENT) return 8;
  return header === EXT_AUTHENTICATION ? (length + 2) * 4 : (length + 1) * 8;
}

/** RFC 791 §3.1 */
function ipv4Part(frame: Uint8Array, at: number): FragmentPart {
  const flags = u16(frame, at + 6);
  const bytes = u16(frame, at + 2) - (frame[at]! & 15) * 4;
  return { id: u16(frame, at + 4), at: (flags & 0x1fff) * 8, bytes, more: (flags & 0x2000) !== 0 };
}

/** RFC 8200 §4.5. @param header offset of the fragment header, in a packet that ends at `end` */
function ipv6Part(frame: Uint8Array, header: number, end: number): FragmentPart {
  const flags = u16(frame, header + 2);
  const id = u16(frame, header + 4) * 0x10000 + u16(frame, header + 6);
  return { id, at: flags & 0xfff8, bytes: end - header - 8, more: (flags & 1) !== 0 };
}

/** Records what kind of fragment it is. @param headerBytes bytes in front of each part of the packet */
function fragment(part: FragmentPart, headerBytes: number, protocol: number, key: Uint8Array): Extracted | undefined {
  const { at, bytes, more } = part;
  if (at === 0 && !more) return undefined;
  if (bytes === 0 || headerBytes + at + bytes > LARGEST_PACKET_BYTES || (more && bytes % 8 !== 0)) {
    return failed('fragment_malformed');
  }
  const l4HeaderBytes = protocol === IP_TCP ? TCP_HEADER_BYTES : protocol === IP_SCTP ? SCTP_HEADER_BYTES : 0;
  if (at > 0 && at < l4HeaderBytes) return failed('fragment_tiny');
  key[IP_FRAG] = at > 0 ? FRAG_LATER : FRAG_FIRST;
  return undefined;
}

/** For a frame that was extracted to `key` with `ip_frag` other than FRAG_NONE. */
export function fragmentPart(frame: Uint8Array, key: Uint8Array): FragmentPart {
  const l3 = key[VLAN_TCI] === 0 && key[VLAN_TCI + 1] === 0 ? ETH_HEADER_BYTES : ETH_HEADER_BYTES + 4;
  if (frame[l3]! >>> 4 === 4) return ipv4Part(frame, l3);
  let next = frame[l3 + 6]!;
  let header = l3 + IPV6_HEADER_BYTES;
  while (next !== EXT_FRAGMENT) {
    const sizeBytes = extensionBytes(next, frame[header + 1]!);
    next = frame[header]!;
    header += sizeBytes;
  }
  return ipv6Part(frame, header, l3 + IPV6_HEADER_BYTES + u16(frame, l3 + 4));
}

/** The packet's L4 header lies in [at, end); a first fragment that ends within it is `fragment_tiny` (RFC 7112). */
function l4(frame: Uint8Array, at: number, end: number, key: Uint8Array, v6: boolean): Extracted {
  const extracted = l4Header(frame, at, end, key, v6);
  const isTiny = !extracted.ok && extracted.reason === 'l4_truncated' && key[IP_FRAG] === FRAG_FIRST;
  return isTiny ? failed('fragment_tiny') : extracted;
}

function l4Header(frame: Uint8Array, at: number, end: number, key: Uint8Array, v6: boolean): Extracted {
  if (key[IP_FRAG] === FRAG_LATER) return { ok: true, lengthBytes: end, l4Offset: 0 };
  const present = end - at;
  switch (key[IP_PROTO]) {
    case IP_TCP: {
      const headerBytes = present < 20 ? 0 : (frame[at + 12]! >>> 4) * 4;
      if (headerBytes < 20 || headerBytes > present) return failed('l4_truncated');
      copy(frame, at, key, L4_SRC, 4);
      break;
    }
    case IP_UDP:
      if (present < 8) return failed('l4_truncated');
      copy(frame, at, key, L4_SRC, 4);
      break;
    case IP_SCTP:
      if (present < 12) return failed('l4_truncated');
      copy(frame, at, key, L4_SRC, 4);
      break;
    case IP_ICMP:
      if (v6) break;
      if (present < 8) return failed('l4_truncated');
      icmpTypeAndCode(frame, at, key);
      if (frame[at] === ICMP_ECHO_REQUEST || frame[at] === ICMP_ECHO_REPLY) copy(frame, at + 4, key, ICMP_ID, 2);
      break;
    case IP_ICMPV6: {
      if (!v6) break;
      const type = frame[at];
      const echo = type === ICMPV6_ECHO_REQUEST || type === ICMPV6_ECHO_REPLY;
      if (present < 4 || (echo && present < 8)) return failed('l4_truncated');
      icmpTypeAndCode(frame, at, key);
      if (echo) copy(frame, at + 4, key, ICMP_ID, 2);
      if (!neighborDiscovery(frame, at, end, key)) return failed('nd_malformed');
      break;
    }
    default:
  }
  return { ok: true, lengthBytes: end, l4Offset: at };
}

function icmpTypeAndCode(frame: Uint8Array, at: number, key: Uint8Array): void {
  key[L4_SRC + 1] = frame[at]!;
  key[L4_DST + 1] = frame[at + 1]!;
}

/** Bytes in front of the options, by type. */
function neighborHeaderBytes(type: number): number | undefined {
  switch (type) {
    case ND_ROUTER_SOLICITATION:
      return 8;
    case ND_ROUTER_ADVERTISEMENT:
      return 16;
    case ND_NEIGHBOR_SOLICITATION:
    case ND_NEIGHBOR_ADVERTISEMENT:
      return 24;
    case ND_REDIRECT:
      return 40;
    default:
      return undefined;
  }
}

/** RFC 4861 §6.1, §7.1 and §8.1 except the checksum. False if it is malformed; true also if it is not an ND message. */
function neighborDiscovery(frame: Uint8Array, at: number, end: number, key: Uint8Array): boolean {
  const type = frame[at]!;
  const headerBytes = neighborHeaderBytes(type);
  if (headerBytes === undefined) return true;
  // RFC 6980: none of them may be fragmented.
  if (key[IP_FRAG] !== FRAG_NONE || key[IP_TTL] !== ND_HOP_LIMIT || frame[at + 1] !== 0) return false;
  if (end - at < headerBytes) return false;
  if (type === ND_NEIGHBOR_SOLICITATION || type === ND_NEIGHBOR_ADVERTISEMENT) {
    if (frame[at + 8] === 0xff || isMapped(frame, at + 8)) return false;
    copy(frame, at + 8, key, ND_TARGET, 16);
  }
  const isOfTarget = type === ND_NEIGHBOR_ADVERTISEMENT || type === ND_REDIRECT;
  return neighborOptions(frame, at + headerBytes, end, key, isOfTarget ? ND_OPTION_TARGET_LLA : ND_OPTION_SOURCE_LLA);
}

/**
 * Makes sure that every receiver takes the same address for the link-layer address, the one in the key: there is one
 * option, of the right kind and length.
 */
function neighborOptions(frame: Uint8Array, at: number, end: number, key: Uint8Array, wanted: number): boolean {
  let found = false;
  for (let option = at; option < end; ) {
    if (end - option < 8) return false;
    const type = frame[option]!;
    const sizeBytes = frame[option + 1]! * 8;
    if (sizeBytes === 0 || sizeBytes > end - option) return false;
    if (type === ND_OPTION_SOURCE_LLA || type === ND_OPTION_TARGET_LLA) {
      const isUnspecified = wanted === ND_OPTION_SOURCE_LLA && isZeroAt(key, IP_SRC, 16);
      const isAddress = (frame[option + 2]! & 1) === 0 && !isZeroAt(frame, option + 2, 6);
      if (found || type !== wanted || sizeBytes !== 8 || !isAddress || isUnspecified) return false;
      found = true;
      copy(frame, option + 2, key, ND_LLA, 6);
    }
    option += sizeBytes;
  }
  return true;
}

function failed(reason: DropReason): Extracted {
  return { ok: false, reason };
}

function u16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

function copy(from: Uint8Array, at: number, to: Uint8Array, toAt: number, length: number): void {
  for (let i = 0; i < length; i++) to[toAt + i] = from[at + i]!;
}

/** 4 bytes as an IPv4-mapped address. */
function copyMapped(from: Uint8Array, at: number, key: Uint8Array, keyAt: number): void {
  key[keyAt + 10] = 0xff;
  key[keyAt + 11] = 0xff;
  copy(from, at, key, keyAt + 12, 4);
}

/** An IPv4-mapped address (RFC 4291 §2.5.5.2)? */
function isMapped(bytes: Uint8Array, at: number): boolean {
  return bytes[at + 10] === 0xff && bytes[at + 11] === 0xff && isZeroAt(bytes, at, 10);
}

function isZeroAt(bytes: Uint8Array, at: number, length: number): boolean {
  for (let i = at; i < at + length; i++) if (bytes[i] !== 0) return false;
  return true;
}
