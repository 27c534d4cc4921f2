/** TCP (RFC 9293 §3.1) and UDP (RFC 768) headers. */
import { concat, getU16, getU32, setU16, setU32 } from './bytes.ts';
import { l4Checksum, udpChecksum } from './checksum.ts';
import { IP_TCP } from './ipv4.ts';

export const TCP_HEADER_BYTES = 20;
const UDP_HEADER_BYTES = 8;

export const TCP_SYN = 2;
export const TCP_RST = 4;
export const TCP_ACK = 16;
/** Offsets in a header, in bytes. */
export const TCP_SEQUENCE = 4;
export const TCP_ACKNOWLEDGMENT = 8;
export const TCP_FLAGS = 13;

/** True if a segment with these flags may answer a SYN: it is a SYN itself, or acknowledges `end`. */
export function answersTcp(flags: number, acknowledgment: number, end: number): boolean {
  return (flags & TCP_SYN) !== 0 || ((flags & TCP_ACK) !== 0 && acknowledgment === end);
}

export interface Tcp {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgment: number;
  /** FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32. */
  readonly flags: number;
  readonly window: number;
  /** A multiple of 4 bytes, at most 40. */
  readonly options: Uint8Array;
  readonly payload: Uint8Array;
}

export interface Udp {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Uint8Array;
}

/** True if a segment with these flags begins a connection. */
export function beginsTcp(flags: number): boolean {
  return (flags & (TCP_SYN | TCP_ACK)) === TCP_SYN;
}

/** Undefined when the header does not fit. The checksum is not verified. The result is a view of `segment`. */
export function parseTcp(segment: Uint8Array): Tcp | undefined {
  if (segment.length < TCP_HEADER_BYTES) return undefined;
  const headerBytes = (segment[12]! >>> 4) * 4;
  if (headerBytes < TCP_HEADER_BYTES || headerBytes > segment.length) return undefined;
  return {
    sourcePort: getU16(segment, 0),
    destinationPort: getU16(segment, 2),
    sequence: getU32(segment, 4),
    acknowledgment: getU32(segment, 8),
    flags: segment[13]!,
    window: getU16(segment, 14),
    options: segment.subarray(TCP_HEADER_BYTES, headerBytes),
    payload: segment.subarray(headerBytes),
  };
}

export type TcpFields = Pick<Tcp, 'sourcePort' | 'destinationPort'> & Partial<Tcp>;

/** A new segment with its checksum. @param source 4 or 16 bytes, like `destination` */
export function buildTcp(source: Uint8Array, destination: Uint8Array, fields: TcpFields): Uint8Array {
  const options = fields.options ?? new Uint8Array();
  const header = new Uint8Array(TCP_HEADER_BYTES);
  setU16(header, 0, fields.sourcePort);
  setU16(header, 2, fields.destinationPort);
  setU32(header, 4, fields.sequence ?? 0);
  setU32(header, 8, fields.acknowledgment ?? 0);
  header[12] = ((TCP_HEADER_BYTES + options.length) / 4) << 4;
  header[13] = fields.flags ?? TCP_SYN;
  setU16(header, 14, fields.window ?? 0xffff);
  const segment = concat(header, options, fields.payload ?? new Uint8Array());
  setU16(segment, 16, l4Checksum(source, destination, IP_TCP, segment));
  return segment;
}

/** Undefined when the header or its length does not fit. The result is a view of `datagram`, cut to that length. */
export function parseUdp(datagram: Uint8Array): Udp | undefined {
  if (datagram.length < UDP_HEADER_BYTES) return undefined;
  const lengthBytes = getU16(datagram, 4);
  if (lengthBytes < UDP_HEADER_BYTES || lengthBytes > datagram.length) return undefined;
  return {
    sourcePort: getU16(datagram, 0),
    destinationPort: getU16(datagram, 2),
    payload: datagram.subarray(UDP_HEADER_BYTES, lengthBytes),
  };
}

/** A new datagram with its checksum. @param source 4 or 16 bytes, like `destination` */
export function buildUdp(source: Uint8Array, destination: Uint8Array, udp: Udp): Uint8Array {
  const header = new Uint8Array(UDP_HEADER_BYTES);
  setU16(header, 0, udp.sourcePort);
  setU16(header, 2, udp.destinationPort);
  setU16(header, 4, UDP_HEADER_BYTES + udp.payload.length);
  const datagram = concat(header, udp.payload);
  setU16(datagram, 6, udpChecksum(source, destination, datagram));
  return datagram;
}
