/**
 * Address translation (RFC 3022, RFC 4787, RFC 5508): addresses and ports of a connection's packets,
 * and of the ICMP errors about it. Checksums change by as much as the words that they cover (RFC 1624),
 * so a wrong one stays wrong. The result is a copy. native/nat.h does the same.
 */
import { extract } from '../../flow/extract.ts';
import { FRAG_LATER, FRAG_NONE, fields } from '../../flow/fields.ts';
import { turned, type ConnectionRecords, type ConnectionTuples, type Tuple } from '../../flow/connection.ts';
import type { Action } from '../../flow/action.ts';
import { readQuoted } from '../../flow/quoted.ts';
import { emptyKey, readNumber, type FlowKey } from '../../flow/key.ts';
import type { DropReason } from '../../flow/reason.ts';
import { isIp4, sameBytes } from '../../flow/types.ts';
import { getU16, setU16 } from '../../wire/bytes.ts';
import { setIcmpChecksum } from '../../wire/checksum.ts';
import { ETH_IPV4, ETH_IPV6 } from '../../wire/ethernet.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP } from '../../wire/ipv4.ts';
import { IPV6_HEADER_BYTES } from '../../wire/ipv6.ts';
import { l3Offset, NEEDS_CSUM, TCP_CSUM_OFFSET, UDP_CSUM_OFFSET, type Frame } from './offload.ts';

/** Translates a packet of the connection, in one direction. */
export function translateAddresses(
  { original, translated }: ConnectionTuples,
  reply: boolean,
  frame: Frame,
  key: FlowKey,
): Frame {
  const bytes = frame.bytes.slice();
  rewriteNat({ ...frame, bytes }, key, l4Offset(bytes, key), reply ? turned(original) : translated);
  return { ...frame, bytes };
}

/** Translates an ICMP error. @returns the frame as it goes on, or the reason why it does not */
export function translateRelated(
  { slot, generation, reply }: Extract<Action, { op: 'related' }>,
  records: ConnectionRecords,
  frame: Frame,
  key: FlowKey,
): Frame | DropReason {
  if (slot >= records.count || records.generation(slot) !== generation) return 'connection_gone';
  const { protocol, original, translated } = records.read(slot);
  const bytes = frame.bytes.slice();
  const [from, to] = reply ? [translated, original] : [turned(original), turned(translated)];
  const isRelated = rewriteRelated(bytes, key, l4Offset(bytes, key), protocol, from, to);
  return isRelated ? { ...frame, bytes } : 'icmp_unrelated';
}

/** The offset of the L4 header; 0 if there is none or it was not reached. */
export function l4Offset(frame: Uint8Array, key: FlowKey): number {
  if (!isIp(key) || key[fields.ip_frag.offset] === FRAG_LATER) return 0;
  const l3 = l3Offset(frame);
  if (readNumber(key, fields.eth_type) === ETH_IPV4) return l3 + (frame[l3]! & 15) * 4;
  if (frame[l3 + 6] === key[fields.ip_proto.offset]) return l3 + IPV6_HEADER_BYTES;
  const again = extract(frame, emptyKey());
  return again.ok ? again.l4Offset : 0;
}

function isIp(key: FlowKey): boolean {
  const type = readNumber(key, fields.eth_type);
  return type === ETH_IPV4 || type === ETH_IPV6;
}

/** How ones' complement sums change, for words at even offsets. */
class SumChange {
  #sum = 0;

  write(frame: Uint8Array, at: number, value: Uint8Array): void {
    for (let i = 0; i < value.length; i += 2) this.changed(getU16(frame, at + i), getU16(value, i));
    frame.set(value, at);
  }

  changed(from: number, to: number): void {
    this.#sum += (~from & 0xffff) + to;
  }

  add(other: SumChange): void {
    this.#sum += fold(other.#sum);
  }

  /** Applies the change to a checksum field. */
  apply(frame: Uint8Array, at: number): void {
    setU16(frame, at, this.#applied(getU16(frame, at)));
  }

  /** Applies the change to a UDP checksum, where 0 means that there is none. */
  applyUdp(frame: Uint8Array, at: number): void {
    setU16(frame, at, this.#applied(getU16(frame, at)) || 0xffff);
  }

  /** Applies the change to the checksum of an ICMP message for IPv4, which covers what follows `icmp`. */
  applyIcmp(frame: Uint8Array, icmp: number): void {
    setIcmpChecksum(frame.subarray(icmp), this.#applied(getU16(frame, icmp + 2)));
  }

  #applied(checksum: number): number {
    return ~fold(this.#sum + (~checksum & 0xffff)) & 0xffff;
  }

  /** Applies the change to the sum of a pseudo header, which is not complemented. */
  applyUnfinished(frame: Uint8Array, at: number): void {
    setU16(frame, at, fold(this.#sum + getU16(frame, at)));
  }
}

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value);
}

function addressOf(ip: Uint8Array, v4: boolean): Uint8Array {
  return ip.subarray(v4 ? 12 : 0);
}

/** Writes the ports, or the identifier of an echo. */
function writePorts(frame: Uint8Array, l4: number, protocol: number, to: Tuple, change: SumChange): void {
  if (protocol === IP_TCP || protocol === IP_UDP) {
    change.write(frame, l4, u16(to.sourcePort));
    change.write(frame, l4 + 2, u16(to.destinationPort));
  } else {
    change.write(frame, l4 + 4, u16(to.sourcePort));
  }
}

/** Rewrites a packet of the connection. Later fragments have only addresses. */
function rewriteNat({ bytes, offload }: Frame, key: FlowKey, l4: number, to: Tuple): void {
  const v4 = readNumber(key, fields.eth_type) === ETH_IPV4;
  const l3 = l3Offset(bytes);
  const [source, size] = v4 ? [l3 + 12, 4] : [l3 + 8, 16];
  const change = new SumChange();
  change.write(bytes, source, addressOf(to.source, v4));
  change.write(bytes, source + size, addressOf(to.destination, v4));
  if (v4) change.apply(bytes, l3 + 10);
  if (l4 === 0) return;

  const protocol = key[fields.ip_proto.offset]!;
  if ((offload.flags & NEEDS_CSUM) !== 0 && offload.csumStart === l4) {
    change.applyUnfinished(bytes, l4 + offload.csumOffset);
    return writePorts(bytes, l4, protocol, to, new SumChange());
  }
  switch (protocol) {
    case IP_TCP:
      writePorts(bytes, l4, protocol, to, change);
      change.apply(bytes, l4 + TCP_CSUM_OFFSET);
      return;
    case IP_UDP: {
      const hasNone = getU16(bytes, l4 + UDP_CSUM_OFFSET) === 0;
      writePorts(bytes, l4, protocol, to, change);
      if (hasNone) return;
      change.applyUdp(bytes, l4 + UDP_CSUM_OFFSET);
      return;
    }
    case IP_ICMP: {
      // It does not cover addresses.
      const identifier = new SumChange();
      writePorts(bytes, l4, protocol, to, identifier);
      identifier.applyIcmp(bytes, l4);
      return;
    }
    case IP_ICMPV6:
      writePorts(bytes, l4, protocol, to, change);
      change.apply(bytes, l4 + 2);
      return;
    default:
  }
}

/**
 * Rewrites an ICMP error about a packet of the connection, on its way back to that packet's sender
 * (RFC 5508 §4). It quotes the packet as it arrived on the side of `from`. The quoted tuple becomes `to`,
 * and so does the destination of the error, and its source too if that side is hidden behind an
 * address. Returns false, with nothing changed, if it does not quote a packet of this connection.
 */
function rewriteRelated(
  frame: Uint8Array,
  key: FlowKey,
  icmp: number,
  protocol: number,
  from: Tuple,
  to: Tuple,
): boolean {
  const v4 = readNumber(key, fields.eth_type) === ETH_IPV4;
  if (icmp === 0 || key[fields.ip_frag.offset] !== FRAG_NONE) return false;
  if (key[fields.ip_proto.offset] !== (v4 ? IP_ICMP : IP_ICMPV6) || isIp4(from.source) !== v4) return false;
  const hasPorts = protocol === IP_TCP || protocol === IP_UDP;
  // No other protocol is translated.
  if (!hasPorts && protocol !== key[fields.ip_proto.offset]) return false;
  const quoted = icmp + 8;
  const found = readQuoted(frame.subarray(quoted), v4);
  if (found?.protocol !== protocol || !sameTuple(found.tuple, from)) return false;
  const quotedL4 = quoted + found.headerBytes;
  const [addresses, size] = v4 ? [12, 4] : [8, 16];

  // The quoted headers. `icmpChange` collects the change of what the error's own checksum covers.
  const quotedChange = new SumChange();
  const icmpChange = new SumChange();
  const write = (at: number, value: Uint8Array, change: SumChange): void => {
    for (let i = 0; i < value.length; i += 2) icmpChange.changed(getU16(frame, at + i), getU16(value, i));
    change.write(frame, at, value);
  };
  const refresh = (at: number, apply: () => void): void => {
    const before = getU16(frame, at);
    apply();
    icmpChange.changed(before, getU16(frame, at));
  };
  write(quoted + addresses, addressOf(to.source, v4), quotedChange);
  write(quoted + addresses + size, addressOf(to.destination, v4), quotedChange);
  if (v4) refresh(quoted + 10, () => quotedChange.apply(frame, quoted + 10));
  if (hasPorts) {
    write(quotedL4, u16(to.sourcePort), quotedChange);
    write(quotedL4 + 2, u16(to.destinationPort), quotedChange);
    const isUdp = protocol === IP_UDP;
    const at = quotedL4 + (isUdp ? UDP_CSUM_OFFSET : TCP_CSUM_OFFSET);
    const isThere = frame.length >= at + 2;
    if (isThere && !isUdp) refresh(at, () => quotedChange.apply(frame, at));
    if (isThere && isUdp && getU16(frame, at) !== 0) refresh(at, () => quotedChange.applyUdp(frame, at));
  } else if (v4) {
    const identifier = new SumChange();
    write(quotedL4 + 4, u16(to.sourcePort), identifier);
    refresh(quotedL4 + 2, () => identifier.applyIcmp(frame, quotedL4));
  } else {
    write(quotedL4 + 4, u16(to.sourcePort), quotedChange);
    refresh(quotedL4 + 2, () => quotedChange.apply(frame, quotedL4 + 2));
  }

  // The error itself.
  const l3 = l3Offset(frame);
  const outer = new SumChange();
  if (!sameBytes(from.destination, to.destination)) {
    outer.write(frame, l3 + addresses, addressOf(to.destination, v4));
  }
  outer.write(frame, l3 + addresses + size, addressOf(to.source, v4));
  if (v4) outer.apply(frame, l3 + 10);
  else icmpChange.add(outer);
  icmpChange.apply(frame, icmp + 2);
  return true;
}

function sameTuple(a: Tuple, b: Tuple): boolean {
  return (
    sameBytes(a.source, b.source) &&
    sameBytes(a.destination, b.destination) &&
    a.sourcePort === b.sourcePort &&
    a.destinationPort === b.destinationPort
  );
}
