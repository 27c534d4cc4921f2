/**
 * A frame in the form in which it is sent where nobody completes checksums or segments superframes any
 * more: one or more segments. native/segment.h has the rules, and does the same without copies.
 */
import { concat, getU16, getU32, setU16, setU32 } from '../../wire/bytes.ts';
import { checksum } from '../../wire/checksum.ts';
import { IP_TCP, IP_UDP } from '../../wire/ipv4.ts';
import { IPV6_HEADER_BYTES } from '../../wire/ipv6.ts';
import type { Offload } from '../../flow/offload.ts';
import {
  GSO_NONE,
  GSO_TCP4,
  GSO_TCP6,
  GSO_UDP,
  NEEDS_CSUM,
  gsoKind,
  l3Offset,
  pseudoSumOf,
  segmentCount,
  superframeHeaderBytes,
  type Frame,
} from './offload.ts';

const FIN_PSH = 0x09;
const CWR = 0x80;

/** Offloads of a TAP: native/io/tap.h. */
const TAKES_CSUM = 1;
const TAKES_TSO4 = 2;
const TAKES_TSO6 = 4;
const TAKES_USO = 8;
export const TAKES_ALL = 15;

/** Can a port with these `offloads` be given a frame that asks for this? */
export function takes(offloads: number, offload: Offload): boolean {
  if ((offload.flags & NEEDS_CSUM) === 0) return true;
  switch (gsoKind(offload)) {
    case GSO_NONE:
      return (offloads & TAKES_CSUM) !== 0;
    case GSO_TCP4:
      return (offloads & TAKES_TSO4) !== 0;
    case GSO_TCP6:
      return (offloads & TAKES_TSO6) !== 0;
    default:
      return (offloads & TAKES_USO) !== 0;
  }
}

/** The finished segments of `frame`: new arrays, or the frame itself if nothing is left to do. */
export function segments({ bytes, offload }: Frame): Uint8Array[] {
  if ((offload.flags & NEEDS_CSUM) === 0) return [bytes];
  if (offload.gsoType === GSO_NONE) return [withChecksum(bytes, offload)];
  const headerBytes = superframeHeaderBytes(bytes, offload);
  const cut: Uint8Array[] = [];
  for (let at = headerBytes; at < bytes.length; at += offload.gsoSize) {
    const payload = bytes.subarray(at, at + offload.gsoSize);
    const segment = new Uint8Array(headerBytes + payload.length);
    segment.set(bytes.subarray(0, headerBytes));
    segment.set(payload, headerBytes);
    const isLast = at + offload.gsoSize >= bytes.length;
    finish(segment, offload, cut.length, isLast);
    cut.push(segment);
  }
  return cut;
}

function withChecksum(bytes: Uint8Array, { csumStart, csumOffset }: Offload): Uint8Array {
  const finished = bytes.slice();
  setU16(finished, csumStart + csumOffset, checksum(bytes.subarray(csumStart)) || 0xffff);
  return finished;
}

/** Splits a superframe of more than MAX_SEGMENTS in two, with half of the segments each. */
export function halves(frame: Frame): [Frame, Frame] {
  const { bytes, offload } = frame;
  const firstSegments = Math.ceil(segmentCount(frame) / 2);
  const headerBytes = superframeHeaderBytes(bytes, offload);
  const middle = headerBytes + firstSegments * offload.gsoSize;
  const part = (payload: Uint8Array, first: number, isLast: boolean): Uint8Array => {
    const one = concat(bytes.subarray(0, headerBytes), payload);
    setU16(one, offload.csumStart + offload.csumOffset, number(one, offload, first, isLast));
    return one;
  };
  return [
    { bytes: part(bytes.subarray(headerBytes, middle), 0, false), offload },
    {
      bytes: part(bytes.subarray(middle), firstSegments, true),
      offload: { ...offload, gsoType: gsoKind(offload) },
    },
  ];
}

/** Turns a copy of the superframe's headers, with a piece of its payload, into segment `index`. */
function finish(segment: Uint8Array, offload: Offload, index: number, isLast: boolean): void {
  const pseudo = number(segment, offload, index, isLast);
  const l4 = offload.csumStart;
  setU16(segment, l4 + offload.csumOffset, 0);
  const sum = checksum(segment.subarray(l4), pseudo);
  const isUdp = gsoKind(offload) === GSO_UDP;
  setU16(segment, l4 + offload.csumOffset, sum === 0 && isUdp ? 0xffff : sum);
}

/**
 * Turns the superframe's headers in `part`, which has a piece of its payload, into those of that part:
 * everything except the checksum behind the IP header.
 *
 * @param first the number of its first segment
 * @returns the sum of the pseudo header
 */
function number(part: Uint8Array, offload: Offload, first: number, isLast: boolean): number {
  const l3 = l3Offset(part);
  const l4 = offload.csumStart;
  const l4Bytes = part.length - l4;
  const tcp = gsoKind(offload) !== GSO_UDP;
  if (part[l3]! >>> 4 === 4) {
    setU16(part, l3 + 2, part.length - l3);
    setU16(part, l3 + 4, (getU16(part, l3 + 4) + first) & 0xffff);
    setU16(part, l3 + 10, 0);
    setU16(part, l3 + 10, checksum(part.subarray(l3, l4)));
  } else {
    setU16(part, l3 + 4, part.length - l3 - IPV6_HEADER_BYTES);
  }
  if (tcp) {
    setU32(part, l4 + 4, (getU32(part, l4 + 4) + first * offload.gsoSize) >>> 0);
    if (!isLast) part[l4 + 13]! &= ~FIN_PSH;
    if (first > 0) part[l4 + 13]! &= ~CWR;
  } else {
    setU16(part, l4 + 4, l4Bytes);
  }
  return pseudoSumOf(part, l3, tcp ? IP_TCP : IP_UDP, l4Bytes);
}
