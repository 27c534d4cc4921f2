/**
 * What the shared store has made for this host and the watch has not reported yet. A writer waits for the watch, so that
 * everything is put into force in the order of the store, but not for ever: then what was made is known without it.
 */
import type { Change, Transaction } from '../../store/store.ts';

/** How many are remembered. Those who never ask for what they wrote are told by the watch. */
const MOST = 1000;

interface Made {
  readonly transaction: Transaction;
  /** Set when nobody waits for the watch any more. */
  isGiven: boolean;
}

export class MadeWrites {
  readonly #made = new Map<number, Made>();

  add(revision: number, transaction: Transaction): void {
    this.#made.set(revision, { transaction, isGiven: false });
    const [oldest] = this.#made.keys();
    if (this.#made.size > MOST) this.#made.delete(oldest!);
  }

  /** True if the watch has yet to report it. */
  isAwaited(revision: number): boolean {
    return this.#made.get(revision)?.isGiven === false;
  }

  /** True if it was put into force without the watch. */
  isGiven(revision: number): boolean {
    return this.#made.get(revision)?.isGiven === true;
  }

  /** The revision of the last one; 0 if the watch has reported all. A listing that is asked for now is not older. */
  get newest(): number {
    return Math.max(0, ...this.#made.keys());
  }

  /** Like `newest`, of those that have put something: they are reported. */
  get newestPut(): number {
    let newest = 0;
    for (const [revision, { transaction }] of this.#made) {
      if (revision > newest && transaction.put?.length) newest = revision;
    }
    return newest;
  }

  /**
   * The store has another history, or went back: nothing is reported any more.
   * @param isNewest whether nothing later is known of a record than what was made at a revision @returns what nobody knows yet
   */
  restart(isNewest: (key: string, revision: number) => boolean): Change[] {
    const left = new Map<string, Change>();
    for (const revision of this.#made.keys()) {
      for (const change of this.give(revision)) if (isNewest(change.key, revision)) left.set(change.key, change);
    }
    this.#made.clear();
    return [...left.values()];
  }

  /** The watch has reported everything up to there. @returns true if the last of it was made for this host */
  reported(revision: number): boolean {
    const isOwn = this.#made.has(revision);
    for (const made of this.#made.keys()) if (made <= revision) this.#made.delete(made);
    return isOwn;
  }

  /** What is to be put into force without the watch; nothing the second time. */
  give(revision: number): Change[] {
    const made = this.#made.get(revision);
    if (!made || made.isGiven) return [];
    made.isGiven = true;
    const { put = [], delete: deleted = [] } = made.transaction;
    return [
      ...deleted.map((key) => ({ key, entry: undefined })),
      ...put.map(({ key, value, lease }) => ({
        key,
        entry: Object.freeze({ key, value, revision, ...(lease !== undefined && { lease }) }),
      })),
    ];
  }

  /** The keys that were written after that revision. */
  newerThan(revision: number): ReadonlySet<string> {
    const keys = new Set<string>();
    for (const [made, { transaction }] of this.#made) {
      if (made > revision) for (const key of keysOf(transaction)) keys.add(key);
    }
    return keys;
  }
}

/** The keys that a transaction changes. */
export function keysOf({ put = [], delete: deleted = [] }: Transaction): string[] {
  return [...put.map(({ key }) => key), ...deleted];
}
