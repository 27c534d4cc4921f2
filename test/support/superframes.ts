/** Superframes and the frames that they stand for, built by the builders of `src/wire` from the same description. */
import type { OffloadedFrame } from '../../src/datapath/datapath.ts';
import type { Offload } from '../../src/flow/offload.ts';
import type { VlanTag } from '../../src/wire/ethernet.ts';
import { buildTcp, buildUdp } from '../../src/wire/l4.ts';
import { buildExtension } from '../../src/wire/ipv6.ts';
import * as frames from './frames.ts';
import { parsePacket, withPartialSum } from './packets.ts';

export const NEEDS_CSUM = 1;
export const DATA_VALID = 2;
export const TCPV4 = 1;
export const TCPV6 = 4;
export const UDP_L4 = 5;
export const ECN = 0x80;

export const FIN = 1;
export const PSH = 8;
export const ACK = 16;
export const CWR = 128;

/** A piece of a TCP stream, or one or more UDP datagrams of one size. */
export interface Stretch {
  readonly family: 4 | 6;
  readonly protocol: 'tcp' | 'udp';
  readonly payload: Uint8Array;
  readonly ends?: frames.Ends;
  readonly vlan?: VlanTag;
  /** A destination options header; IPv6 only. */
  readonly extension?: boolean;
  readonly sourcePort?: number;
  readonly sequence?: number;
  readonly flags?: number;
  readonly acknowledgment?: number;
  readonly window?: number;
  readonly tcpOptions?: Uint8Array;
  readonly tos?: number;
  readonly ttl?: number;
  readonly id?: number;
  readonly dontFragment?: boolean;
  readonly ipOptions?: Uint8Array;
  readonly flowLabel?: number;
}

/** Everything in one frame, with a full checksum. */
export function frameOf(stretch: Stretch): Uint8Array {
  const { family, protocol, payload, vlan, tos = 0, ttl = 64 } = stretch;
  const ends: frames.Ends = {
    ...(family === 4 ? {} : { src: 'fd00::1', dst: 'fd00::2' }),
    ...(vlan ? { vlan } : {}),
    ip4: {
      tos,
      ttl,
      id: stretch.id ?? 7,
      dontFragment: stretch.dontFragment ?? true,
      options: stretch.ipOptions ?? new Uint8Array(),
    },
    ip6: { trafficClass: tos, hopLimit: ttl, flowLabel: stretch.flowLabel ?? 0 },
    ...stretch.ends,
  };
  const ports = { sourcePort: stretch.sourcePort ?? 1000, destinationPort: 443 };
  const { sequence = 1, flags = ACK, acknowledgment = 5, window = 500, tcpOptions = new Uint8Array() } = stretch;
  const tcp = { ...ports, sequence, flags, acknowledgment, window, options: tcpOptions, payload };
  if (!stretch.extension) {
    return protocol === 'tcp' ? frames.tcp(ends, tcp) : frames.udp(ends, ports.sourcePort, 443, payload);
  }
  const addresses = [frames.wireIp(ends.src!), frames.wireIp(ends.dst!)] as const;
  const number = protocol === 'tcp' ? 6 : 17;
  const segment = protocol === 'tcp' ? buildTcp(...addresses, tcp) : buildUdp(...addresses, { ...ports, payload });
  return frames.ip(ends, 60, buildExtension(number, new Uint8Array(6), segment));
}

/** The frame with a partial checksum. */
export function partialOf(stretch: Stretch): OffloadedFrame & { readonly offload: Offload } {
  const frame = withPartialSum(frameOf(stretch));
  const csumOffset = stretch.protocol === 'tcp' ? 16 : 6;
  const csumStart = parsePacket(frame).l4Offset;
  return { frame, offload: { flags: NEEDS_CSUM, gsoType: 0, gsoSize: 0, csumStart, csumOffset } };
}

/** A superframe. */
export function superframeOf(stretch: Stretch, gsoSize: number): OffloadedFrame & { readonly offload: Offload } {
  const { frame, offload } = partialOf(stretch);
  const tcpType = stretch.family === 4 ? TCPV4 : TCPV6;
  const gsoType = stretch.protocol === 'tcp' ? tcpType : UDP_L4;
  return { frame, offload: { ...offload, gsoType, gsoSize } };
}

/** The frames that it stands for, one by one, each as a host would send it alone. */
export function segmentsOf(stretch: Stretch, gsoSize: number): Uint8Array[] {
  const { payload, sequence = 1, flags = ACK, id = 7 } = stretch;
  const made: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += gsoSize) {
    let kept = flags;
    if (at > 0) kept &= ~CWR;
    if (at + gsoSize < payload.length) kept &= ~(FIN | PSH);
    made.push(
      frameOf({
        ...stretch,
        payload: payload.subarray(at, at + gsoSize),
        sequence: (sequence + at) % 0x100000000,
        flags: kept,
        id: (id + made.length) % 0x10000,
      }),
    );
  }
  return made;
}

/** Bytes that differ from position to position. */
export function someBytes(length: number, first = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => ((first + at) * 31 + ((first + at) >> 8)) & 0xff);
}
