/**
 * The policy log: what policies have denied and ended lately, with who was at both ends and what decides it, so that
 * `weft policy log` can tell it after the flow, the connection or the workload is gone.
 *
 *   denied   a packet that was to begin a conversation. One event for each decision: packets like it are dropped by the cached
 *            flow, and counted there
 *   cut      connections that were open until policies, labels or addresses changed
 *   staged   what is allowed now, and would be denied, or ended, if staged policies were in force
 *
 * It is bounded: the latest POLICY_LOG_LENGTH events are kept. Somebody who begins one denied conversation after another does not
 * push out the others: of what comes in by one port, only so many events a second are taken, and the next one says how many were
 * left out.
 */
import { fields } from '../flow/fields.ts';
import { readNumber, type FlowKey } from '../flow/key.ts';
import type { PortNo } from '../flow/types.ts';
import type { Decision } from '../pipeline/decide.ts';
import { denialOfPacket, type Denial } from '../pipeline/open-connections.ts';
import type { Tables } from '../pipeline/stage.ts';
import { RateLimit } from './rate-limit.ts';
import type { Cut } from './sweep.ts';

export const POLICY_LOG_LENGTH = 1024;
/** Events of what comes in by one port. */
const LOGGED = { perSecond: 10, burst: 100 };

export interface PolicyEvent extends Denial {
  readonly kind: 'denied' | 'cut' | 'staged';
  /** By the switch's clock. */
  readonly atMs: number;
  /** How many connections were ended, or would be; 0 for a packet. */
  readonly connections: number;
  /** The id of its record in the log of drops, if it has one. */
  readonly drop: number | undefined;
  /** How many events like it were left out before this one. */
  readonly leftOut: number;
}

/** What one sweep has ended, and what staged policies would have ended. */
export interface SweptEvents {
  readonly events: readonly PolicyEvent[];
  /** How many connections were ended beside those that `events` tell. */
  readonly more: number;
}

export class PolicyLog {
  /** A ring: the next one takes the place of the oldest. */
  readonly #events: PolicyEvent[] = [];
  #next = 0;
  readonly #limit = new RateLimit(LOGGED);
  readonly #leftOut = new Map<PortNo, number>();
  readonly #listeners = new Set<(event: PolicyEvent) => void>();
  readonly #sweepListeners = new Set<(swept: SweptEvents) => void>();
  readonly #counts = { cut: 0, stagedDecisions: 0, stagedConnections: 0 };

  /**
   * How many connections were ended, and how many decisions about new conversations, and judgements about open connections, would
   * have been another one if staged policies were in force. All are counted, also those of which no event is kept.
   */
  get counts(): { readonly cut: number; readonly stagedDecisions: number; readonly stagedConnections: number } {
    return this.#counts;
  }

  /** Notes what policies say about a packet, if it is denied or staged policies would deny it. @param drop its id in the log of drops */
  note(key: FlowKey, { judged, reason }: Decision, atMs: number, drop: number | undefined, tables: Tables): void {
    for (const one of judged) {
      const { judgement } = one;
      const kind = judgement.verdict === 'deny' ? 'denied' : 'staged';
      if (kind === 'staged' && !judgement.staged) continue;
      if (kind === 'staged') this.#counts.stagedDecisions++;
      // Of a flood that leaves out some ports, nothing is told: it is not denied.
      if (kind === 'denied' && reason === undefined) continue;
      const port = readNumber(key, fields.in_port) as PortNo;
      if (!this.#limit.allows(port, atMs)) {
        this.#leftOut.set(port, (this.#leftOut.get(port) ?? 0) + 1);
        continue;
      }
      const leftOut = this.#leftOut.get(port) ?? 0;
      this.#leftOut.delete(port);
      this.#add({ ...denialOfPacket(key, one, tables), ...{ kind, atMs, connections: 0, drop, leftOut } });
    }
  }

  /** Notes what a sweep has ended, by class, and what staged policies would have ended. */
  swept(cuts: readonly Cut[], more: number, staged: readonly Cut[]): void {
    const of = (kind: 'cut' | 'staged') => (cut: Cut) => ({ ...cut, kind, drop: undefined, leftOut: 0 });
    const events: PolicyEvent[] = [...cuts.map(of('cut')), ...staged.map(of('staged'))];
    for (const event of events) this.#add(event);
    this.#counts.cut += more + sumOf(cuts);
    this.#counts.stagedConnections += sumOf(staged);
    for (const listener of this.#sweepListeners) listener({ events, more });
  }

  /** The events that are kept, the oldest first. */
  events(): readonly PolicyEvent[] {
    return [...this.#events.slice(this.#next), ...this.#events.slice(0, this.#next)];
  }

  forgetPort(port: PortNo): void {
    this.#limit.forget(port);
    this.#leftOut.delete(port);
  }

  /** Calls `listener` with every event. Returns how to stop. */
  onEvent(listener: (event: PolicyEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls `listener` with what each sweep has ended. Returns how to stop. */
  onSwept(listener: (swept: SweptEvents) => void): () => void {
    this.#sweepListeners.add(listener);
    return () => this.#sweepListeners.delete(listener);
  }

  #add(event: PolicyEvent): void {
    this.#events[this.#next] = event;
    this.#next = (this.#next + 1) % POLICY_LOG_LENGTH;
    for (const listener of this.#listeners) listener(event);
  }
}

function sumOf(cuts: readonly Cut[]): number {
  return cuts.reduce((sum, { connections }) => sum + connections, 0);
}
