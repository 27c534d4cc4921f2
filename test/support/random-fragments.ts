/** Fragmented datagrams, as a network may bring them, or somebody who wants to get around a switch. */
import { concat } from '../../src/wire/bytes.ts';
import { buildExtension, buildFragment } from '../../src/wire/ipv6.ts';
import { buildTcp, buildUdp } from '../../src/wire/l4.ts';
import * as frames from './frames.ts';
import { ends4, ends6, l4Ports } from './random-frames.ts';
import type { Random } from './random.ts';

/** A part of a datagram, in bytes; `more` parts follow it. */
export interface Part {
  readonly at: number;
  readonly bytes: number;
  readonly more: boolean;
}

/** Cuts `lengthBytes` into parts of `eachBytes`, a multiple of 8. */
export function partsOf(lengthBytes: number, eachBytes: number): Part[] {
  const count = Math.ceil(lengthBytes / eachBytes);
  return Array.from({ length: count }, (_, i) => ({
    at: i * eachBytes,
    bytes: Math.min(eachBytes, lengthBytes - i * eachBytes),
    more: i < count - 1,
  }));
}

export interface FragmentOptions {
  readonly id: number;
  readonly protocol: number;
  /** Payload of the whole datagram; zeros beyond its end. */
  readonly payload: Uint8Array;
  /** For IPv6: extension headers in front of the fragment header, 8 bytes each. */
  readonly before?: readonly number[];
}

/** The frame with this part of a datagram. */
export function fragmentOf(ends: frames.Ends, { at, bytes, more }: Part, options: FragmentOptions): Uint8Array {
  const { id, protocol, payload, before = [] } = options;
  const data = new Uint8Array(bytes);
  data.set(payload.subarray(at, at + bytes));
  if (frames.wireIp(ends.src ?? '10.0.0.1').length === 4) {
    return frames.ip({ ...ends, ip4: { ...ends.ip4, id, fragmentOffset: at, moreFragments: more } }, protocol, data);
  }
  const fragment = buildFragment({ nextHeader: protocol, offset: at, more, id }, data);
  const [chain, first] = before.reduceRight<[Uint8Array, number]>(
    ([rest, next], header) => [buildExtension(next, new Uint8Array(6), rest), header],
    [fragment, 44],
  );
  return frames.ip(ends, first, chain);
}

/**
 * One datagram, with one of a few identifications: whole and in order, or with parts that are
 * reordered, missing, repeated, moved, longer, shorter, or under other identifications.
 */
export function randomFragments(random: Random): Uint8Array[] {
  const ends = random.chance(0.5) ? ends4(random) : ends6(random);
  const [protocol, payload] = upper(random);
  let parts = partsOf(payload.length, random.pick([8, 16, 24, 32, 64, 1448]));
  if (random.chance(0.5)) parts = shuffled(parts, random);
  if (random.chance(0.1)) parts = parts.filter(({ at }) => at > 0);
  if (random.chance(0.3)) parts = parts.filter(() => random.chance(0.8));
  if (random.chance(0.4)) parts = parts.flatMap((part) => disturbed(part, random));
  const before = random.pick([[], [], [], [60], [0], [0, 43, 60]]);
  const id = random.pick([0, 1, 2, 0x1234]);
  return parts.map((part) => {
    const names = random.chance(0.01) ? { id: 77, protocol: 17 } : { id, protocol };
    return fragmentOf(ends, part, { ...names, payload, before });
  });
}

/** Only later fragments, which each take up a place. */
export function waitingFragments(random: Random): Uint8Array[] {
  const ends = random.chance(0.5) ? ends4(random) : ends6(random);
  const bytes = random.pick([8, 8, 20_000]);
  const payload = new Uint8Array();
  const one = (at: number, id: number) => fragmentOf(ends, { at, bytes, more: true }, { id, protocol: 17, payload });
  if (random.chance(0.5)) return Array.from({ length: 300 }, (_, id) => one(64, id));
  return Array.from({ length: 70 }, (_, i) => one(8 * (1 + i), 5));
}

function upper(random: Random): [protocol: number, payload: Uint8Array] {
  const ports = { sourcePort: random.pick(l4Ports), destinationPort: random.pick(l4Ports) };
  const payload = new Uint8Array(random.pick([20, 60, 300, 2000])).fill(random.u32());
  const anyIp = new Uint8Array(16);
  switch (random.int(5)) {
    case 0:
      return [6, buildTcp(anyIp, anyIp, { ...ports, payload })];
    case 1:
      return [random.pick([1, 58]), concat(Uint8Array.of(random.pick([8, 128, 3, 134]), 0), payload)];
    case 2:
      return [random.pick([47, 50, 132]), payload];
    case 3:
      return [60, buildExtension(17, new Uint8Array(6), buildUdp(anyIp, anyIp, { ...ports, payload }))];
    default:
      return [17, buildUdp(anyIp, anyIp, { ...ports, payload })];
  }
}

function shuffled(parts: readonly Part[], random: Random): Part[] {
  const rest = [...parts];
  return Array.from(parts, () => rest.splice(random.int(rest.length), 1)[0]!);
}

function disturbed(part: Part, random: Random): Part[] {
  if (random.chance(0.8)) return [part];
  const eights = (limit: number) => 8 * random.int(limit);
  switch (random.int(6)) {
    case 0:
      return [part, part];
    case 1:
      return [part, { ...part, at: Math.max(0, part.at + eights(7) - 24) }];
    case 2:
      return [{ ...part, bytes: part.bytes + eights(4) }];
    case 3:
      return [part, { ...part, bytes: Math.max(1, part.bytes - eights(3)) }];
    case 4:
      return [part, { ...part, more: !part.more }];
    default:
      return [{ ...part, bytes: part.bytes + random.pick([1, -1]) }];
  }
}
