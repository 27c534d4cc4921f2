/**
 * What the latest transactions changed, in memory: the source of watches, and of entries at an earlier
 * revision. It is bounded; older transactions are forgotten.
 */
import type { Change, Entry } from './store.ts';

/** One transaction. Revisions have no gaps. */
interface Step {
  readonly revision: number;
  readonly changes: readonly (Change & { readonly before: Entry | undefined })[];
  readonly lengthBytes: number;
}

export interface HistoryLimits {
  readonly steps: number;
  /** Of the values, as JSON. */
  readonly lengthBytes: number;
}

const DEFAULT_LIMITS: HistoryLimits = { steps: 1000, lengthBytes: 1 << 20 };

export class History {
  readonly #limits: HistoryLimits;
  #steps: Step[] = [];
  #lengthBytes = 0;
  /** Of the last transaction, kept or not. */
  #revision: number;

  constructor(revision: number, limits: HistoryLimits = DEFAULT_LIMITS) {
    this.#revision = revision;
    this.#limits = limits;
  }

  get revision(): number {
    return this.#revision;
  }

  /** The first revision that is still known. */
  get #first(): number {
    return this.#revision - this.#steps.length + 1;
  }

  add(changes: Step['changes'], lengthBytes: number): void {
    this.#steps.push({ revision: ++this.#revision, changes, lengthBytes });
    this.#lengthBytes += lengthBytes;
    let dropped = 0;
    const { steps, lengthBytes: most } = this.#limits;
    while (this.#steps.length - dropped > steps || (this.#lengthBytes > most && dropped < this.#steps.length - 1)) {
      this.#lengthBytes -= this.#steps[dropped++]!.lengthBytes;
    }
    if (dropped > 0) this.#steps = this.#steps.slice(dropped);
  }

  /** Transactions from revision `from` on; undefined if some of them are forgotten. */
  since(from: number): readonly Step[] | undefined {
    if (from < this.#first) return undefined;
    return this.#steps.slice(from - this.#first);
  }

  /** The entries at revision `at`, given the current ones; undefined if that revision is forgotten. */
  entriesAt(at: number, now: ReadonlyMap<string, Entry>): ReadonlyMap<string, Entry> | undefined {
    const later = this.since(at + 1);
    if (!later) return undefined;
    if (later.length === 0) return now;
    const entries = new Map(now);
    for (const { changes } of later.toReversed()) {
      for (const { key, before } of changes) {
        if (before) entries.set(key, before);
        else entries.delete(key);
      }
    }
    return entries;
  }
}
