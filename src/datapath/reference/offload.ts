/**
 * Work that a frame still needs when it is handed on: completing a checksum, and segmenting a
 * superframe (virtio 1.2 §5.1.6).
 *
 * Whoever sent a frame controls what it asks for, so nothing in it is trusted: it must agree with the
 * frame's own headers. Above all, the checksum must be the frame's own, of TCP or UDP, or lie behind
 * all headers that a decision reads: it is written after the frame was decided, and at another place
 * it could change the source address. A frame that passes this check can be forwarded or segmented
 * without another look. native/offload.h has the same rules.
 */
import { FRAG_NONE, fields } from '../../flow/fields.ts';
import { readNumber, type FlowKey } from '../../flow/key.ts';
import { getU16 } from '../../wire/bytes.ts';
import { checksum, pseudoSum } from '../../wire/checksum.ts';
import { ETH_HEADER_BYTES, ETH_IPV4, ETH_IPV6, ETH_QINQ, ETH_VLAN, VLAN_TAG_BYTES } from '../../wire/ethernet.ts';
import { IP_TCP, IP_UDP } from '../../wire/ipv4.ts';
import { IPV6_HEADER_BYTES } from '../../wire/ipv6.ts';
import type { Offload } from '../../flow/offload.ts';

/** The checksum field holds only the sum of the pseudo header. */
export const NEEDS_CSUM = 1;
/** The checksum is known to be good. */
export const DATA_VALID = 2;
export const GSO_NONE = 0;
export const GSO_TCP4 = 1;
export const GSO_TCP6 = 4;
export const GSO_UDP = 5;
/** Beside a TCP type: CWR belongs to the first segment only. */
export const GSO_ECN = 0x80;

export const TCP_CSUM_OFFSET = 16;
export const UDP_CSUM_OFFSET = 6;

/** Protocols that carry packets. */
const IP_IPIP = 4;
const IP_IPV6 = 41;
const IP_GRE = 47;

/**
 * For a superframe: how many bytes of headers come before the payload, and how many segments it may
 * have on its way through. One that comes in with more, up to twice as many, is split in two (`halves`).
 */
const MAX_HEADER_BYTES = 256;
export const MAX_SEGMENTS = 1024;

export const NO_OFFLOAD: Offload = { flags: 0, gsoType: GSO_NONE, gsoSize: 0, csumStart: 0, csumOffset: 0 };

/** A frame inside a datapath: cut to its L3 length, with the work that it still needs. */
export interface Frame {
  readonly bytes: Uint8Array;
  readonly offload: Offload;
}

/** GSO_NONE, GSO_TCP4, GSO_TCP6 or GSO_UDP. */
export function gsoKind(offload: Offload): number {
  return offload.gsoType & ~GSO_ECN;
}

/** Where the payload of a TCP segment or UDP datagram begins. */
export function payloadOffset(frame: Uint8Array, l4: number, tcp: boolean): number {
  return l4 + (tcp ? (frame[l4 + 12]! >>> 4) * 4 : 8);
}

/**
 * Size of the largest packet as which a frame is sent, from behind the Ethernet header on (14 bytes:
 * tagged frames are not routed). For a superframe, that of its segments.
 */
export function packetBytes({ bytes, offload }: Frame): number {
  const whole = offload.gsoType === GSO_NONE ? bytes.length : superframeHeaderBytes(bytes, offload) + offload.gsoSize;
  return whole - ETH_HEADER_BYTES;
}

/** As how many frames it is sent where superframes are not supported. */
export function segmentCount({ bytes, offload }: Frame): number {
  if (offload.gsoType === GSO_NONE) return 1;
  return Math.ceil((bytes.length - superframeHeaderBytes(bytes, offload)) / offload.gsoSize);
}

/** The bytes of all these frames: for a superframe, including the headers of each segment. */
export function wireBytes(frame: Frame): number {
  const { bytes, offload } = frame;
  if (offload.gsoType === GSO_NONE) return bytes.length;
  return bytes.length + (segmentCount(frame) - 1) * superframeHeaderBytes(bytes, offload);
}

export function superframeHeaderBytes(bytes: Uint8Array, offload: Offload): number {
  return payloadOffset(bytes, offload.csumStart, gsoKind(offload) !== GSO_UDP);
}

/** Where the L3 header begins. */
export function l3Offset(frame: Uint8Array): number {
  const type = getU16(frame, 12);
  return type === ETH_VLAN || type === ETH_QINQ ? ETH_HEADER_BYTES + VLAN_TAG_BYTES : ETH_HEADER_BYTES;
}

/** Is the checksum of its IPv4 header right? True if it is not IPv4. `frame` was extracted to `key`. */
export function hasRightIpv4Header(frame: Uint8Array, key: FlowKey): boolean {
  if (readNumber(key, fields.eth_type) !== ETH_IPV4) return true;
  const l3 = l3Offset(frame);
  return checksum(frame.subarray(l3, l3 + (frame[l3]! & 15) * 4)) === 0;
}

/** The sum of the pseudo header for the IP packet at `l3`. */
export function pseudoSumOf(frame: Uint8Array, l3: number, protocol: number, l4Bytes: number): number {
  const [at, size] = frame[l3]! >>> 4 === 4 ? [l3 + 12, 4] : [l3 + 8, 16];
  const destination = at + size;
  return pseudoSum(frame.subarray(at, destination), frame.subarray(destination, destination + size), protocol, l4Bytes);
}

/**
 * What `frame`, extracted to `key` with its L4 header at `l4`, may ask for, without what has no
 * meaning; DATA_VALID stays, for the coalescer. Undefined if it asks for something that cannot be
 * done.
 */
export function checkOffload(frame: Uint8Array, asked: Offload, key: FlowKey, l4: number): Offload | undefined {
  const { flags, gsoType, gsoSize } = asked;
  const kind = gsoKind(asked);
  const tcp = kind === GSO_TCP4 || kind === GSO_TCP6;
  if ((flags & ~(NEEDS_CSUM | DATA_VALID)) !== 0) return undefined;
  if (kind !== GSO_NONE && kind !== GSO_UDP && !tcp) return undefined;
  if ((gsoType & GSO_ECN) !== 0 && !tcp) return undefined;

  const unfinished = (flags & NEEDS_CSUM) !== 0;
  const own = unfinished && isOwnChecksum(asked, key, l4);
  if (unfinished && !own && !isInnerChecksum(asked, frame.length, key, l4)) return undefined;
  const [csumStart, csumOffset] = unfinished ? [asked.csumStart, asked.csumOffset] : [0, 0];
  const checksumOnly = { flags, gsoType: GSO_NONE, gsoSize: 0, csumStart, csumOffset };
  if (kind === GSO_NONE) return checksumOnly;

  if (!own || gsoSize === 0) return undefined;
  const protocol = key[fields.ip_proto.offset];
  const isIp4 = readNumber(key, fields.eth_type) === ETH_IPV4;
  if (protocol !== (tcp ? IP_TCP : IP_UDP) || (tcp && isIp4 !== (kind === GSO_TCP4))) return undefined;
  const headerBytes = payloadOffset(frame, l4, tcp);
  if (headerBytes > MAX_HEADER_BYTES) return undefined;
  if (!tcp && getU16(frame, l4 + 4) !== frame.length - l4) return undefined;
  const payloadBytes = frame.length - headerBytes;
  if (payloadBytes > 2 * MAX_SEGMENTS * gsoSize) return undefined;
  return payloadBytes > gsoSize ? { flags, gsoType, gsoSize, csumStart, csumOffset } : checksumOnly;
}

/** Is it the checksum of the frame's own TCP or UDP header? */
function isOwnChecksum({ csumStart, csumOffset }: Offload, key: FlowKey, l4: number): boolean {
  if (l4 === 0 || key[fields.ip_frag.offset] !== FRAG_NONE || csumStart !== l4) return false;
  const protocol = key[fields.ip_proto.offset];
  return (
    (protocol === IP_TCP && csumOffset === TCP_CSUM_OFFSET) || (protocol === IP_UDP && csumOffset === UDP_CSUM_OFFSET)
  );
}

/**
 * Is it the checksum of a packet inside this one: behind a UDP header (a tunnel of the container's
 * own), or directly behind the IP header of a tunnelling protocol?
 */
function isInnerChecksum({ csumStart, csumOffset }: Offload, lengthBytes: number, key: FlowKey, l4: number): boolean {
  if (l4 === 0 || key[fields.ip_frag.offset] !== FRAG_NONE || csumStart + csumOffset + 2 > lengthBytes) return false;
  const protocol = key[fields.ip_proto.offset]!;
  if (protocol === IP_UDP) return csumStart >= l4 + 8;
  return csumStart >= l4 && [IP_IPIP, IP_IPV6, IP_GRE].includes(protocol);
}

/**
 * What a frame from the underlay still needs: its checksum, if the field holds only the sum of the
 * pseudo header. The sender left it to a network card, and a virtual underlay has none. A finished
 * checksum has that value once in 65,536 times, and comes out the same.
 */
export function unfinishedChecksum(frame: Uint8Array, key: FlowKey, l4: number): Offload {
  const protocol = key[fields.ip_proto.offset]!;
  const tcp = protocol === IP_TCP;
  if ((!tcp && protocol !== IP_UDP) || key[fields.ip_frag.offset] !== FRAG_NONE || l4 === 0) return NO_OFFLOAD;
  const l3 = l3Offset(frame);
  if (readNumber(key, fields.eth_type) === ETH_IPV6 && l4 !== l3 + IPV6_HEADER_BYTES) return NO_OFFLOAD;
  const csumOffset = tcp ? TCP_CSUM_OFFSET : UDP_CSUM_OFFSET;
  if (pseudoSumOf(frame, l3, protocol, frame.length - l4) !== getU16(frame, l4 + csumOffset)) return NO_OFFLOAD;
  return { flags: NEEDS_CSUM, gsoType: GSO_NONE, gsoSize: 0, csumStart: l4, csumOffset };
}
