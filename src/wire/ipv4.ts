/** IPv4 (RFC 791). */
import { getU16, setU16 } from './bytes.ts';
import { checksum } from './checksum.ts';

export const IPV4_HEADER_BYTES = 20;
export const IPV4_DF = 0x4000;
export const IPV4_MF = 0x2000;

export const IP_ICMP = 1;
export const IP_TCP = 6;
export const IP_UDP = 17;
export const IP_ICMPV6 = 58;
export const IP_SCTP = 132;

/** True if its headers begin with a source and a destination port. */
export function hasPorts(protocol: number): boolean {
  return protocol === IP_TCP || protocol === IP_UDP || protocol === IP_SCTP;
}

export interface Ipv4 {
  /** 4 bytes, like `destination`. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  readonly ttl: number;
  readonly tos: number;
  readonly id: number;
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** In bytes; a multiple of 8. */
  readonly fragmentOffset: number;
  /** A multiple of 4 bytes, at most 40. */
  readonly options: Uint8Array;
  /** Cut to the total length. */
  readonly payload: Uint8Array;
}

/** Undefined when lengths or version do not fit. The checksum is not verified. The result is a view of `packet`. */
export function parseIpv4(packet: Uint8Array): Ipv4 | undefined {
  if (packet.length < IPV4_HEADER_BYTES || packet[0]! >>> 4 !== 4) return undefined;
  const headerBytes = (packet[0]! & 15) * 4;
  const totalBytes = getU16(packet, 2);
  if (headerBytes < IPV4_HEADER_BYTES || totalBytes < headerBytes || totalBytes > packet.length) return undefined;
  const fragment = getU16(packet, 6);
  return {
    source: packet.subarray(12, 16),
    destination: packet.subarray(16, 20),
    protocol: packet[9]!,
    ttl: packet[8]!,
    tos: packet[1]!,
    id: getU16(packet, 4),
    dontFragment: (fragment & IPV4_DF) !== 0,
    moreFragments: (fragment & IPV4_MF) !== 0,
    fragmentOffset: (fragment & 0x1fff) * 8,
    options: packet.subarray(IPV4_HEADER_BYTES, headerBytes),
    payload: packet.subarray(headerBytes, totalBytes),
  };
}

export type Ipv4Fields = Pick<Ipv4, 'source' | 'destination' | 'protocol' | 'payload'> & Partial<Ipv4>;

/** A new packet with a correct header checksum; TTL 64 and no flags unless they are given. */
export function buildIpv4(fields: Ipv4Fields): Uint8Array {
  const options = fields.options ?? new Uint8Array();
  const headerBytes = IPV4_HEADER_BYTES + options.length;
  const packet = new Uint8Array(headerBytes + fields.payload.length);
  packet[0] = 0x40 | (headerBytes / 4);
  packet[1] = fields.tos ?? 0;
  setU16(packet, 2, packet.length);
  setU16(packet, 4, fields.id ?? 0);
  const flags = (fields.dontFragment ? IPV4_DF : 0) | (fields.moreFragments ? IPV4_MF : 0);
  setU16(packet, 6, flags | ((fields.fragmentOffset ?? 0) / 8));
  packet[8] = fields.ttl ?? 64;
  packet[9] = fields.protocol;
  packet.set(fields.source, 12);
  packet.set(fields.destination, 16);
  packet.set(options, IPV4_HEADER_BYTES);
  setU16(packet, 10, checksum(packet.subarray(0, headerBytes)));
  packet.set(fields.payload, headerBytes);
  return packet;
}
