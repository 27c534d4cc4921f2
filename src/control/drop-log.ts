/**
 * The decisions to drop that were made last, so that `weft why d7` can say
 * them again after the flow is gone. The latest of each port and reason is
 * kept, and the latest DROP_LOG_LENGTH of all.
 */
import { fields } from '../flow/fields.ts';
import { readNumber, type FlowKey } from '../flow/key.ts';
import type { DropReason } from '../flow/reason.ts';
import type { PortNo } from '../flow/types.ts';
import type { Translation } from '../pipeline/translate.ts';

export const DROP_LOG_LENGTH = 1024;

export interface DropRecord {
  /** Counts from 1; `d7` for an operator. */
  readonly id: number;
  readonly port: PortNo;
  readonly reason: DropReason;
  readonly key: FlowKey;
  readonly decision: Translation;
  /** By the switch's clock. */
  readonly atMs: number;
}

export class DropLog {
  readonly #records = new Map<number, DropRecord>();
  readonly #latest = new Map<string, DropRecord>();
  readonly #listeners = new Set<(record: DropRecord) => void>();
  #lastId = 0;

  add(key: FlowKey, decision: Translation, atMs: number): void {
    const port = readNumber(key, fields.in_port) as PortNo;
    const reason = decision.reason!;
    const record: DropRecord = { id: ++this.#lastId, port, reason, key: key.slice(), decision, atMs };
    this.#records.set(record.id, record);
    this.#latest.set(`${port}/${reason}`, record);
    if (this.#records.size > DROP_LOG_LENGTH) this.#records.delete(this.#records.keys().next().value!);
    for (const listener of this.#listeners) listener(record);
  }

  get(id: number): DropRecord | undefined {
    return this.#records.get(id) ?? [...this.#latest.values()].find((record) => record.id === id);
  }

  latest(port: PortNo, reason: DropReason): DropRecord | undefined {
    return this.#latest.get(`${port}/${reason}`);
  }

  /** Forgets what a port that has gone was told. */
  forgetPort(port: PortNo): void {
    for (const [id, record] of this.#latest) if (record.port === port) this.#latest.delete(id);
  }

  /** Calls `listener` with every decision to drop. Returns how to stop. */
  onDrop(listener: (record: DropRecord) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
