/**
 * What a connection's two sides have sent. What ends a TCP connection or begins it
 * anew counts only with a sequence number that both can have agreed on (RFC 5961
 * §3, §4): anything else is passed on, for the receiver to judge, and changes
 * nothing here. native/connection.h does the same.
 */
import { SEEN_ACK, SEEN_FIN, SEEN_RST, SEEN_SYN, type ConnectionRecords, type Half } from '../flow/connection.ts';
import { getU32 } from '../wire/bytes.ts';
import { IP_TCP } from '../wire/ipv4.ts';
import { payloadOffset } from './offload.ts';

const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 16;

/** A frame of the connection. @param l4 where its L4 header is, 0 if it has none */
export function track(
  records: ConnectionRecords,
  slot: number,
  reply: boolean,
  frame: Uint8Array,
  l4: number,
  nowMs: number,
): void {
  const half = records.half(slot, reply);
  if (records.read(slot).protocol === IP_TCP && l4 !== 0) {
    trackTcp(half, records.half(slot, !reply), frame, l4);
  }
  half.packets++;
  half.bytes += frame.length;
  half.lastSeenMs = nowMs;
  records.writeHalf(slot, reply, half);
}

/** Is `a` at or before `b`, of sequence numbers (RFC 9293 §3.4)? */
function upTo(a: number, b: number): boolean {
  return ((b - a) | 0) >= 0;
}

function trackTcp(half: Half, other: Half, frame: Uint8Array, tcp: number): void {
  const sequence = getU32(frame, tcp + 4);
  const acknowledged = getU32(frame, tcp + 8);
  const flags = frame[tcp + 13]!;
  const payloadBytes = frame.length - payloadOffset(frame, tcp, true);
  const isFirst = half.packets === 0;

  if (flags & RST) {
    const refusesSyn = isFirst && (flags & ACK) !== 0 && acknowledged === other.end;
    const isNext = (!isFirst && sequence === half.end) || ((other.seen & SEEN_ACK) !== 0 && sequence === other.acked);
    if (refusesSyn || isNext) half.seen |= SEEN_RST;
    return;
  }
  if (flags & SYN) {
    const isOver = ((half.seen | other.seen) & SEEN_RST) !== 0 || (half.seen & other.seen & SEEN_FIN) !== 0;
    const answers = (flags & ACK) !== 0 && (other.seen & SEEN_SYN) !== 0 && acknowledged === other.end;
    if (!isFirst && !isOver && !answers) return;
    half.seen = SEEN_SYN | (flags & ACK ? SEEN_ACK : 0);
    half.end = (sequence + 1 + payloadBytes) >>> 0;
    half.acked = acknowledged;
    return;
  }
  const end = (sequence + payloadBytes + (flags & FIN ? 1 : 0)) >>> 0;
  const isFurther = isFirst || upTo(half.end, end);
  if (flags & FIN && isFurther && (isFirst || upTo(sequence, half.end))) half.seen |= SEEN_FIN;
  if (isFurther) half.end = end;
  if ((flags & ACK) === 0) return;
  if ((half.seen & SEEN_ACK) === 0 || upTo(half.acked, acknowledged)) half.acked = acknowledged;
  half.seen |= SEEN_ACK;
}
