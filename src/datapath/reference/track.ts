/**
 * Tracks what the two sides of a connection have sent. A TCP segment counts only if its sequence numbers
 * are ones that both sides can have agreed on (RFC 5961 §3-§5), so that each side limits what is
 * believed of the other: nobody acknowledges what was not sent, and nobody sends beyond any window.
 * Any other segment is passed on for the receiver to judge, and changes nothing here.
 * native/connection.h does the same.
 */
import { SEEN_ACK, SEEN_FIN, SEEN_RST, SEEN_SYN, type ConnectionRecords, type Half } from '../../flow/connection.ts';
import { getU32 } from '../../wire/bytes.ts';
import { IP_TCP } from '../../wire/ipv4.ts';
import { payloadOffset } from './offload.ts';

const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 16;

/**
 * How far a side may be ahead of what the other has acknowledged, and how far its acknowledgments may be behind what
 * the other has sent: more than hosts keep in flight, and a small part of the sequence space.
 */
const IN_FLIGHT = 2 ** 26;

/** Tracks a frame of the connection. @param l4 the offset of its L4 header, 0 if it has none */
export function track(
  records: ConnectionRecords,
  slot: number,
  reply: boolean,
  frame: Uint8Array,
  l4: number,
  nowMs: number,
): void {
  const half = records.half(slot, reply);
  if (records.protocol(slot) === IP_TCP && l4 !== 0) {
    trackTcp(half, records.half(slot, !reply), frame, l4);
  }
  half.packets++;
  half.bytes += frame.length;
  half.lastSeenMs = nowMs;
  records.writeHalf(slot, reply, half);
}

/** True if sequence number `a` is at or before `b` (RFC 9293 §3.4). */
function upTo(a: number, b: number): boolean {
  return ((b - a) | 0) >= 0;
}

/** How far sequence number `b` is ahead of `a`. */
function distance(a: number, b: number): number {
  return (b - a) >>> 0;
}

function trackTcp(half: Half, other: Half, frame: Uint8Array, tcp: number): void {
  const sequence = getU32(frame, tcp + 4);
  const acknowledged = getU32(frame, tcp + 8);
  const flags = frame[tcp + 13]!;
  const payloadBytes = frame.length - payloadOffset(frame, tcp, true);
  const isKnown = (half.seen & (SEEN_SYN | SEEN_ACK)) !== 0;
  const isOtherKnown = (other.seen & (SEEN_SYN | SEEN_ACK)) !== 0;
  const isBounded = (other.seen & SEEN_ACK) !== 0;

  if (flags & RST) {
    const refusesSyn = !isKnown && (flags & ACK) !== 0 && acknowledged === other.end;
    const isAwaited = isBounded && sequence === other.acked;
    const isNext = isKnown && sequence === half.end;
    if (refusesSyn || isAwaited || isNext) half.seen |= SEEN_RST;
    return;
  }
  if (flags & SYN) {
    const isOver = ((half.seen | other.seen) & SEEN_RST) !== 0 || (half.seen & other.seen & SEEN_FIN) !== 0;
    const answers = (flags & ACK) !== 0 && (other.seen & SEEN_SYN) !== 0 && acknowledged === other.end;
    // Another attempt with another number counts until the other side has answered.
    if (isKnown && isOtherKnown && !isOver && !answers) return;
    half.seen = SEEN_SYN | (flags & ACK ? SEEN_ACK : 0);
    half.end = (sequence + 1 + payloadBytes) >>> 0;
    half.acked = acknowledged;
    return;
  }
  if ((flags & ACK) === 0) return; // No receiver accepts it (RFC 9293 §3.10.7.4).
  const end = (sequence + payloadBytes + (flags & FIN ? 1 : 0)) >>> 0;
  const isSent = !isOtherKnown || distance(acknowledged, other.end) <= IN_FLIGHT;
  const isNear = !isBounded || distance(other.acked, end) <= IN_FLIGHT;
  if (!isSent || !isNear) return;
  const isFurther = !isKnown || upTo(half.end, end);
  if (isFurther) half.end = end;
  if ((half.seen & SEEN_ACK) === 0 || upTo(half.acked, acknowledged)) half.acked = acknowledged;
  half.seen |= SEEN_ACK;
  if (flags & FIN && (isBounded || isFurther)) half.seen |= SEEN_FIN;
}
