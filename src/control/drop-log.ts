/**
 * The latest decisions to drop, so that `weft why d7` can show them after the flow is gone. It keeps
 * the latest one of each port and reason, and the latest DROP_LOG_LENGTH of all.
 */
import { fields } from '../flow/fields.ts';
import { readNumber, type FlowKey } from '../flow/key.ts';
import { dropReasons, reasonNumber, type DropReason } from '../flow/reason.ts';
import type { PortNo } from '../flow/types.ts';
import type { Decision } from '../pipeline/decide.ts';

const DROP_LOG_LENGTH = 1024;

export interface DropRecord {
  /** Counts from 1; operators see `d7`. */
  readonly id: number;
  readonly port: PortNo;
  readonly reason: DropReason;
  readonly key: FlowKey;
  readonly decision: Decision;
  /** By the switch's clock. */
  readonly atMs: number;
}

export class DropLog {
  /** A ring: each record is at its id modulo DROP_LOG_LENGTH. */
  readonly #records: DropRecord[] = [];
  readonly #latest = new Map<number, DropRecord>();
  readonly #listeners = new Set<(record: DropRecord) => void>();
  #lastId = 0;

  /** @returns its id */
  add(key: FlowKey, decision: Decision, atMs: number): number {
    const port = readNumber(key, fields.in_port) as PortNo;
    const reason = decision.reason!;
    const record: DropRecord = { id: ++this.#lastId, port, reason, key: key.slice(), decision, atMs };
    this.#records[record.id % DROP_LOG_LENGTH] = record;
    this.#latest.set(placeOf(port, reason), record);
    for (const listener of this.#listeners) listener(record);
    return record.id;
  }

  get(id: number): DropRecord | undefined {
    const record = this.#records[id % DROP_LOG_LENGTH];
    return record?.id === id ? record : [...this.#latest.values()].find((latest) => latest.id === id);
  }

  /** Those that are kept, the oldest first. */
  records(): readonly DropRecord[] {
    const all = new Set([...this.#latest.values(), ...this.#records.filter(() => true)]);
    return [...all].sort((a, b) => a.id - b.id);
  }

  latest(port: PortNo, reason: DropReason): DropRecord | undefined {
    return this.#latest.get(placeOf(port, reason));
  }

  /** Forgets the drops of a port that is gone. */
  forgetPort(port: PortNo): void {
    for (const [place, record] of this.#latest) if (record.port === port) this.#latest.delete(place);
  }

  /** Calls `listener` with every decision to drop. Returns how to stop. */
  onDrop(listener: (record: DropRecord) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

function placeOf(port: PortNo, reason: DropReason): number {
  return port * dropReasons.length + reasonNumber(reason);
}
