/** IPv6 and its extension headers (RFC 8200). */
import { concat, getU16, setU16, setU32 } from './bytes.ts';

export const IPV6_HEADER_BYTES = 40;

export const EXT_HOP_BY_HOP = 0;
export const EXT_ROUTING = 43;
export const EXT_FRAGMENT = 44;
export const EXT_AUTHENTICATION = 51;
export const EXT_DESTINATION = 60;
export const EXT_MOBILITY = 135;

export interface Ipv6 {
  /** 16 bytes, like `destination`. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** Type of the first header after the fixed one. */
  readonly nextHeader: number;
  readonly hopLimit: number;
  readonly trafficClass: number;
  readonly flowLabel: number;
  /** Cut to the payload length; includes the extension headers. */
  readonly payload: Uint8Array;
}

/** Undefined when version or length do not fit, or for a jumbogram. The result is a view of `packet`. */
export function parseIpv6(packet: Uint8Array): Ipv6 | undefined {
  if (packet.length < IPV6_HEADER_BYTES || packet[0]! >>> 4 !== 6) return undefined;
  const payloadBytes = getU16(packet, 4);
  if (IPV6_HEADER_BYTES + payloadBytes > packet.length) return undefined;
  if (payloadBytes === 0 && packet[6] === EXT_HOP_BY_HOP) return undefined;
  return {
    source: packet.subarray(8, 24),
    destination: packet.subarray(24, 40),
    nextHeader: packet[6]!,
    hopLimit: packet[7]!,
    trafficClass: (getU16(packet, 0) >>> 4) & 0xff,
    flowLabel: ((packet[1]! & 15) << 16) | getU16(packet, 2),
    payload: packet.subarray(IPV6_HEADER_BYTES, IPV6_HEADER_BYTES + payloadBytes),
  };
}

export type Ipv6Fields = Pick<Ipv6, 'source' | 'destination' | 'nextHeader' | 'payload'> & Partial<Ipv6>;

/** A new packet; hop limit 64 unless it is given. */
export function buildIpv6(fields: Ipv6Fields): Uint8Array {
  const packet = new Uint8Array(IPV6_HEADER_BYTES + fields.payload.length);
  setU32(packet, 0, 0x60000000 + (fields.trafficClass ?? 0) * 0x100000 + (fields.flowLabel ?? 0));
  setU16(packet, 4, fields.payload.length);
  packet[6] = fields.nextHeader;
  packet[7] = fields.hopLimit ?? 64;
  packet.set(fields.source, 8);
  packet.set(fields.destination, 24);
  packet.set(fields.payload, IPV6_HEADER_BYTES);
  return packet;
}

/**
 * An extension header in the common form: `data`, padded with zeros to 2 bytes less than a multiple of 8, then `rest`.
 */
export function buildExtension(nextHeader: number, data: Uint8Array, rest: Uint8Array): Uint8Array {
  const units = Math.max(1, Math.ceil((data.length + 2) / 8));
  const header = new Uint8Array(units * 8);
  header[0] = nextHeader;
  header[1] = units - 1;
  header.set(data, 2);
  return concat(header, rest);
}

export interface FragmentFields {
  readonly nextHeader: number;
  /** In bytes; a multiple of 8. */
  readonly offset: number;
  readonly more: boolean;
  readonly id: number;
}

/** A fragment header (RFC 8200 §4.5), then `rest`. */
export function buildFragment(fields: FragmentFields, rest: Uint8Array): Uint8Array {
  const header = new Uint8Array(8);
  header[0] = fields.nextHeader;
  setU16(header, 2, fields.offset | (fields.more ? 1 : 0));
  setU32(header, 4, fields.id);
  return concat(header, rest);
}
