/**
 * A frame as what goes out where nobody finishes checksums or cuts superframes
 * any more: one or more segments. native/segment.h has the rules, and does the
 * same without copies.
 */
import { getU16, getU32, setU16, setU32 } from '../wire/bytes.ts';
import { checksum } from '../wire/checksum.ts';
import { IP_TCP, IP_UDP } from '../wire/ipv4.ts';
import { IPV6_HEADER_BYTES } from '../wire/ipv6.ts';
import type { Offload } from './datapath.ts';
import {
  GSO_NONE,
  GSO_TCP4,
  GSO_TCP6,
  GSO_UDP,
  NEEDS_CSUM,
  gsoKind,
  l3Offset,
  payloadOffset,
  pseudoSumOf,
  type Frame,
} from './offload.ts';

const FIN_PSH = 0x09;
const CWR = 0x80;

/** What a TAP takes: native/io/tap.h. */
const TAKES_CSUM = 1;
const TAKES_TSO4 = 2;
const TAKES_TSO6 = 4;
const TAKES_USO = 8;
export const TAKES_ALL = 15;

/** Can a port that takes `offloads` be given a frame that asks for this? */
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

/** The finished segments of `frame`: new arrays, or the frame itself where nothing is left to do. */
export function segments({ bytes, offload }: Frame): Uint8Array[] {
  if ((offload.flags & NEEDS_CSUM) === 0) return [bytes];
  if (offload.gsoType === GSO_NONE) return [withChecksum(bytes, offload)];
  const tcp = gsoKind(offload) !== GSO_UDP;
  const headerBytes = payloadOffset(bytes, offload.csumStart, tcp);
  const cut: Uint8Array[] = [];
  for (let at = headerBytes; at < bytes.length; at += offload.gsoSize) {
    const payload = bytes.subarray(at, at + offload.gsoSize);
    const segment = new Uint8Array(headerBytes + payload.length);
    segment.set(bytes.subarray(0, headerBytes));
    segment.set(payload, headerBytes);
    const isLast = at + offload.gsoSize >= bytes.length;
    finish(segment, offload, tcp, cut.length, isLast);
    cut.push(segment);
  }
  return cut;
}

function withChecksum(bytes: Uint8Array, { csumStart, csumOffset }: Offload): Uint8Array {
  const finished = bytes.slice();
  setU16(finished, csumStart + csumOffset, checksum(bytes.subarray(csumStart)) || 0xffff);
  return finished;
}

/** Makes a copy of the superframe's headers, with a piece of its payload, segment `index`. */
function finish(segment: Uint8Array, offload: Offload, tcp: boolean, index: number, isLast: boolean): void {
  const l3 = l3Offset(segment);
  const l4 = offload.csumStart;
  const l4Bytes = segment.length - l4;
  if (segment[l3]! >>> 4 === 4) {
    setU16(segment, l3 + 2, segment.length - l3);
    setU16(segment, l3 + 4, (getU16(segment, l3 + 4) + index) & 0xffff);
    setU16(segment, l3 + 10, 0);
    setU16(segment, l3 + 10, checksum(segment.subarray(l3, l4)));
  } else {
    setU16(segment, l3 + 4, segment.length - l3 - IPV6_HEADER_BYTES);
  }
  if (tcp) {
    setU32(segment, l4 + 4, (getU32(segment, l4 + 4) + index * offload.gsoSize) >>> 0);
    if (!isLast) segment[l4 + 13]! &= ~FIN_PSH;
    if (index > 0) segment[l4 + 13]! &= ~CWR;
  } else {
    setU16(segment, l4 + 4, l4Bytes);
  }
  setU16(segment, l4 + offload.csumOffset, 0);
  const sum = checksum(segment.subarray(l4), pseudoSumOf(segment, l3, tcp ? IP_TCP : IP_UDP, l4Bytes));
  setU16(segment, l4 + offload.csumOffset, sum === 0 && !tcp ? 0xffff : sum);
}
