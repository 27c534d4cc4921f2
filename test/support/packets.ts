/**
 * Takes a frame apart and checks it byte by byte, for comparison with what `src` makes; nothing
 * here is imported from there. Sums are computed modulo 65,535, which is equivalent to ones'
 * complement arithmetic.
 */

export interface Packet {
  /** The VLAN tag; undefined for an untagged frame. */
  readonly vlan: number | undefined;
  readonly family: 4 | 6;
  readonly tos: number;
  readonly ttl: number;
  /** IPv4 only, otherwise 0. */
  readonly id: number;
  readonly dontFragment: boolean;
  /** IPv4 options, or IPv6 extension headers, in hex. */
  readonly extras: string;
  readonly protocol: 'tcp' | 'udp';
  readonly l4Offset: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** TCP only, otherwise 0; the same holds for the next three. */
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly flags: number;
  readonly window: number;
  readonly tcpOptions: string;
  readonly payload: Buffer;
  /** `none`: UDP without a checksum. `partial`: the sum of the pseudo header. */
  readonly checksum: 'good' | 'partial' | 'none' | 'bad';
}

/** @throws Error if a length or the IPv4 header checksum is not exactly right, or if it is neither TCP nor UDP */
export function parsePacket(frame: Uint8Array): Packet {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
  const isTagged = bytes.readUInt16BE(12) === 0x8100 || bytes.readUInt16BE(12) === 0x88a8;
  const l3 = isTagged ? 18 : 14;
  const type = bytes.readUInt16BE(l3 - 2);
  const family = type === 0x0800 ? 4 : 6;
  must(type === 0x0800 || type === 0x86dd, `EtherType ${type.toString(16)}`);
  must(bytes[l3]! >> 4 === family, 'IP version');
  const common = { vlan: isTagged ? bytes.readUInt16BE(14) : undefined, family } as const;
  if (family === 4) {
    const l4 = l3 + (bytes[l3]! % 16) * 4;
    must(bytes.readUInt16BE(l3 + 2) === bytes.length - l3, 'IPv4 total length');
    must(sum(bytes.subarray(l3, l4)) % 65535 === 0, 'IPv4 header checksum');
    const fragment = bytes.readUInt16BE(l3 + 6);
    must(fragment % 0x4000 === 0, 'a fragment');
    return {
      ...common,
      tos: bytes[l3 + 1]!,
      ttl: bytes[l3 + 8]!,
      id: bytes.readUInt16BE(l3 + 4),
      dontFragment: fragment === 0x4000,
      extras: bytes.toString('hex', l3 + 20, l4),
      ...transport(bytes, l4, bytes[l3 + 9]!, sum(bytes.subarray(l3 + 12, l3 + 20))),
    };
  }
  must(bytes.readUInt16BE(l3 + 4) === bytes.length - l3 - 40, 'IPv6 payload length');
  let [l4, next] = [l3 + 40, bytes[l3 + 6]!];
  for (; next === 0 || next === 43 || next === 60; l4 += 8 + bytes[l4 + 1]! * 8) next = bytes[l4]!;
  return {
    ...common,
    tos: (bytes.readUInt16BE(l3) >> 4) % 256,
    ttl: bytes[l3 + 7]!,
    id: 0,
    dontFragment: true,
    extras: bytes.toString('hex', l3 + 40, l4),
    ...transport(bytes, l4, next, sum(bytes.subarray(l3 + 8, l3 + 40))),
  };
}

function transport(bytes: Buffer, l4: number, protocol: number, addresses: number) {
  must(protocol === 6 || protocol === 17, `protocol ${protocol}`);
  const l4Bytes = bytes.length - l4;
  const pseudo = (addresses + protocol + l4Bytes) % 65535;
  const field = bytes.readUInt16BE(l4 + (protocol === 6 ? 16 : 6));
  const isGood = (pseudo + sum(bytes.subarray(l4))) % 65535 === 0;
  const isPartial = field % 65535 === pseudo;
  const unsummed = protocol === 17 && field === 0 ? 'none' : undefined;
  const checksum = unsummed ?? (isGood ? 'good' : isPartial ? 'partial' : 'bad');
  const ports = { l4Offset: l4, sourcePort: bytes.readUInt16BE(l4), destinationPort: bytes.readUInt16BE(l4 + 2) };
  if (protocol === 17) {
    must(bytes.readUInt16BE(l4 + 4) === l4Bytes, 'UDP length');
    const none = { sequence: 0, acknowledgment: 0, flags: 0, window: 0, tcpOptions: '' };
    return { protocol: 'udp', ...ports, ...none, payload: bytes.subarray(l4 + 8), checksum } as const;
  }
  const headerBytes = (bytes[l4 + 12]! >> 4) * 4;
  must(headerBytes >= 20 && headerBytes <= l4Bytes, 'TCP data offset');
  return {
    protocol: 'tcp',
    ...ports,
    sequence: bytes.readUInt32BE(l4 + 4),
    acknowledgment: bytes.readUInt32BE(l4 + 8),
    flags: bytes[l4 + 13]!,
    window: bytes.readUInt16BE(l4 + 14),
    tcpOptions: bytes.toString('hex', l4 + 20, l4 + headerBytes),
    payload: bytes.subarray(l4 + headerBytes),
    checksum,
  } as const;
}

/** Returns a copy with the sum of the pseudo header in the checksum field, for a network card to complete. */
export function withPartialSum(frame: Uint8Array): Uint8Array {
  const copy = Buffer.from(frame);
  const { family, protocol, l4Offset, vlan } = parsePacket(frame);
  const l3 = vlan === undefined ? 14 : 18;
  const addresses = family === 4 ? copy.subarray(l3 + 12, l3 + 20) : copy.subarray(l3 + 8, l3 + 40);
  const number = protocol === 'tcp' ? 6 : 17;
  const pseudo = (sum(addresses) + number + copy.length - l4Offset) % 65535;
  copy.writeUInt16BE(pseudo, l4Offset + (protocol === 'tcp' ? 16 : 6));
  return new Uint8Array(copy);
}

/** The sum of all 16-bit words. */
function sum(bytes: Buffer): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i++) total += i % 2 === 0 ? bytes[i]! * 256 : bytes[i]!;
  return total;
}

function must(condition: boolean, what: string): void {
  if (!condition) throw new Error(`the frame is wrong: ${what}`);
}
