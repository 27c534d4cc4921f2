/** How long connections are kept, by their state. native/connection.h has the same numbers. */
import {
  endVerdicts,
  SEEN_ACK,
  SEEN_OTHER,
  SEEN_RST,
  SEEN_SYN,
  type ConnectionRecords,
  type ConnectionState,
} from './connection.ts';

/** States in which a connection may be given up for a new one: half-open, or over. */
export const EXPENDABLE: ReadonlySet<ConnectionState> = new Set([
  'new',
  'syn_sent',
  'syn_received',
  'time_wait',
  'closed',
]);

/** States in which both sides have said that it is over. */
export const OVER: ReadonlySet<ConnectionState> = new Set(['time_wait', 'closed']);

/** True unless it is TCP, and the handshake has never been completed, whatever has become of it. */
export function wasEstablished(records: ConnectionRecords, slot: number): boolean {
  return records.protocol(slot) !== TCP || (records.seen(slot, false) & records.seen(slot, true) & SEEN_ACK) !== 0;
}

/**
 * The acknowledgment number by which the SYN of a connection with a choice of backends is answered; undefined if that has
 * been done, or if it is no such connection. A backend that has another conversation with the same ends answers with another
 * number: the client talks to it from the same port, straight to its address.
 */
export function awaitedAnswer(records: ConnectionRecords, slot: number): number | undefined {
  const isTranslated = records.protocol(slot) === TCP && records.pin(slot) !== 0 && records.kind(slot) === 'translated';
  if (!isTranslated || records.half(slot, true).packets > 0) return undefined;
  const { seen, end } = records.half(slot, false);
  return (seen & SEEN_SYN) === 0 ? undefined : end;
}

/** True if its backend has answered for another conversation, so that its SYN needs another port. */
export function isTaken(records: ConnectionRecords, slot: number): boolean {
  const { packets, seen } = records.half(slot, true);
  return packets === 0 && (seen & SEEN_OTHER) !== 0;
}

/** How much data a SYN may bring (RFC 7413), at most. */
const MOST_SYN_DATA = 65_535;

/**
 * True if nobody has answered the SYN of a connection with a choice of backends, and one with this sequence number is another: its
 * sender has given that connection up, and uses the port again.
 */
export function isGivenUp(records: ConnectionRecords, slot: number, sequence: number): boolean {
  const end = awaitedAnswer(records, slot);
  return end !== undefined && (end - (sequence + 1)) >>> 0 > MOST_SYN_DATA;
}

/** As in Linux, one that was reset goes before the 240 s of RFC 7857 §2.2 are over. */
const timeoutMs = {
  new: 120_000,
  answered: 120_000,
  syn_sent: 240_000,
  syn_received: 240_000,
  established: 7_440_000,
  closing: 240_000,
  time_wait: 240_000,
  closed: 10_000,
} as const satisfies Record<ConnectionState, number>;
/** A port does not wait before it is used again, and neither does such a connection. */
const TRACKED_TIME_WAIT_MS = 10_000;
const ICMP_TIMEOUT_MS = 60_000;
/** A question and its answer (RFC 4787 §4.3, REQ-5 a). A busy resolver must not run out of connections. */
const DNS = { l4Port: 53, timeoutMs: 30_000 };
/** How late an answer to UDP may be whose connection weft has ended. */
const LATE_ANSWER_MS = 30_000;
/**
 * Of one that policies have ended, or of which not all ends know: longer than TCP repeats what nobody acknowledges (`tcp_retries2` of Linux: 924 s), and than an
 * idle end waits before it asks whether the other is there (7,200 s, and 9 times 75 s for an answer). It would begin another one.
 */
const UNSETTLED_MS = 8_300_000;
const [ICMP, TCP, UDP, ICMPV6] = [1, 6, 17, 58];

const QUIET_MS = 240_000;

/** True if it is only tracked, and has had no packet for some minutes: it may be given up for another one. */
export function isQuiet(records: ConnectionRecords, slot: number, nowMs: number): boolean {
  return records.kind(slot) === 'tracked' && nowMs >= records.lastSeenMs(slot) + QUIET_MS;
}

/**
 * True if a SYN with this sequence number begins another conversation than this one, which is only tracked: that of who has
 * been called; or of who has called, with another number, after an answer: it uses the port again, and may have been restarted.
 */
export function isAnotherSyn(records: ConnectionRecords, slot: number, reply: boolean, sequence: number): boolean {
  if (reply) return true;
  return records.half(slot, true).packets > 0 && (sequence + 1) >>> 0 !== records.half(slot, false).end;
}

/** How long the connection in that slot is kept without a packet. */
export function connectionTimeoutMs(records: ConnectionRecords, slot: number): number {
  const protocol = records.protocol(slot);
  if (protocol === ICMP || protocol === ICMPV6) return ICMP_TIMEOUT_MS;
  if (protocol === UDP) {
    if (records.kind(slot) === 'ended') return LATE_ANSWER_MS;
    if (records.read(slot).original.destinationPort === DNS.l4Port) return DNS.timeoutMs;
  }
  const state = records.state(slot);
  if (state !== 'time_wait') return timeoutMs[state];
  if (records.kind(slot) === 'ended') {
    const isTold = (records.seen(slot, true) & SEEN_RST) !== 0;
    return records.verdict(slot) !== endVerdicts.other || !isTold ? UNSETTLED_MS : timeoutMs[state];
  }
  return records.kind(slot) === 'tracked' ? TRACKED_TIME_WAIT_MS : timeoutMs[state];
}
