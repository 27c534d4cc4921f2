/** How long connections are kept, by their state. native/connection.h has the same numbers. */
import type { ConnectionRecords, ConnectionState } from './connection.ts';

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
const [ICMP, UDP, ICMPV6] = [1, 17, 58];

/** How long the connection in that slot is kept without a packet. */
export function connectionTimeoutMs(records: ConnectionRecords, slot: number): number {
  const protocol = records.protocol(slot);
  if (protocol === ICMP || protocol === ICMPV6) return ICMP_TIMEOUT_MS;
  if (protocol === UDP) {
    if (records.kind(slot) === 'ended') return LATE_ANSWER_MS;
    if (records.read(slot).original.destinationPort === DNS.l4Port) return DNS.timeoutMs;
  }
  const state = records.state(slot);
  return state === 'time_wait' && records.kind(slot) === 'tracked' ? TRACKED_TIME_WAIT_MS : timeoutMs[state];
}
