/**
 * The store: the objects that outlive the daemon, as JSON values under keys such as `networks/blue`.
 * Any store that passes `test/store/conformance.ts` can be used.
 *
 *   list      all entries under a prefix, as they were at one revision
 *   watch     all changes from a revision on, both one's own and those of others
 *   transact  everything or nothing, if the entries that it depends on are unchanged
 *   grant     a lease, for entries that disappear when their writer is gone
 *
 * Each transaction has a revision, one more than the one before, and an entry carries the revision
 * that wrote it. Writers use compare-and-swap (`expect`) and never lock. Whatever can be read is
 * durable.
 *
 * A store may limit the number of operations in a transaction (`operationLimit`), and their length. Callers do not
 * notice: `staged.ts` turns any store into one without a limit.
 */

import { WeftError } from '../error.ts';

export interface Entry {
  readonly key: string;
  /** JSON; frozen, because all readers share it. */
  readonly value: unknown;
  /** The revision of the transaction that wrote it. */
  readonly revision: number;
  /** The lease with which it disappears. */
  readonly lease?: string;
}

/** The entries under a prefix, ordered by key, as they were at `revision`. */
export interface Listing {
  readonly revision: number;
  /**
   * Names the history that `revision` belongs to. Revisions of two histories cannot be compared: behind the same address,
   * there is another store now. A store that was restored from a backup may keep its name; then its revision went back.
   */
  readonly history: string;
  readonly entries: readonly Entry[];
  /** The keys of further entries, as `KnownKey` has returned them: they were left out because the caller knows them. In any order. */
  readonly known: readonly string[];
}

/**
 * Whether whoever lists knows the entry with this key as it was written at this revision of the history that is listed: then
 * it returns the key as it has it itself, so that a large listing makes no further text of each. May be asked several times
 * about one entry, and about entries that are no part of the listing in the end.
 */
export type KnownKey = (key: string, revision: number) => string | undefined;

/** Revision 0 means that there is no such entry. */
export interface Expectation {
  readonly key: string;
  readonly revision: number;
}

export interface Put {
  readonly key: string;
  /** JSON. */
  readonly value: unknown;
  /** A lease that has been granted and has not ended. */
  readonly lease?: string;
}

/** Either all of it happens, or nothing. No key may be changed twice. */
export interface Transaction {
  /** Entries that must be as they were read. */
  readonly expect?: readonly Expectation[];
  readonly put?: readonly Put[];
  /** Deleting a key without an entry is not an error. */
  readonly delete?: readonly string[];
}

/** All of them as one. */
export function joined(...transactions: readonly Transaction[]): Transaction {
  return {
    expect: transactions.flatMap(({ expect = [] }) => expect),
    put: transactions.flatMap(({ put = [] }) => put),
    delete: transactions.flatMap(({ delete: deleted = [] }) => deleted),
  };
}

export interface Change {
  readonly key: string;
  /** The entry from this revision on; undefined if it was deleted. */
  readonly entry: Entry | undefined;
}

export type WatchEvent =
  /** What one transaction changed under the prefix. Events arrive in the order of their revisions. */
  | { readonly kind: 'changes'; readonly revision: number; readonly changes: readonly Change[] }
  /**
   * The store no longer knows what happened since then, or has another history, or its revision went back. The watch has
   * ended: list again, which tells what happened, and watch from there.
   */
  | { readonly kind: 'compacted' };

/** Whether the store answers. */
export interface StoreHealth {
  readonly isReachable: boolean;
  /** Since when that is so, in milliseconds since the epoch. Undefined for a store that is always reachable. */
  readonly since?: number;
  /** Names the history of the store that answers, as a listing does. Undefined if it is not reachable, and for one that is always the same. */
  readonly history?: string;
  /** One line that says why it is not reachable, and leaves that itself to its reader. */
  readonly why?: string;
  /** It has no space: why it took nothing that was written of late, although it answers. Deletions it may take all the same. */
  readonly takesNothing?: string;
}

export interface Store {
  /** The maximum number of expectations, and of puts and deletions together, in one transaction. */
  readonly operationLimit: number;
  /** The most bytes of keys and values, as JSON, that one transaction should change. */
  readonly lengthLimitBytes: number;

  get(key: string): Promise<Entry | undefined>;

  /**
   * The entries whose keys begin with `prefix`.
   * @param at an earlier revision; by default the latest
   * @param knownKey entries for which it returns a key are left out, and their values are never read. It must not trust a history
   * that it has not seen: in another one, something else may have the same key and revision
   * @throws WeftError('not_found') if the store no longer knows that revision
   */
  list(prefix: string, at?: number, knownKey?: KnownKey): Promise<Listing>;

  /**
   * Resolves with its revision once it is durable. The caller may reuse what it passes in at once.
   * @throws WeftError `conflict` if an expectation is not met, with the revision that the entry has; `not_found` if a
   * lease has ended; `unreachable` if the store does not answer: nothing was done, unless `isUnanswered`
   */
  transact(transaction: Transaction): Promise<number>;

  /**
   * Calls `listener` for each transaction from revision `from` on that changes something under `prefix`, but not before
   * this method returns. One's own transaction may be reported before or after `transact` resolves.
   * @returns a function that stops the watch
   */
  watch(prefix: string, from: number, listener: (event: WatchEvent) => void): () => void;

  /** Grants a lease that ends `ttlMs` after the last `keepAlive`. @returns its id, which no other lease ever has */
  grant(ttlMs: number): Promise<string>;

  /** Makes the lease last for its whole time again. @throws WeftError('not_found') if it has ended */
  keepAlive(lease: string): Promise<void>;

  /** Ends a lease, deleting its entries in one transaction. Does nothing if it has already ended. */
  revoke(lease: string): Promise<void>;

  /** Answers at once. */
  health(): StoreHealth;

  /** Calls `listener` whenever `health` has changed. @returns a function that stops that */
  onHealth(listener: (health: StoreHealth) => void): () => void;

  /** Waits for transactions under way and refuses later ones. Watches end without another event. */
  close(): Promise<void>;
}

/** The error that a store throws. @param actual the revision that the entry has; 0 if there is none */
export function conflictError(key: string, actual: number, expected: number): WeftError {
  return new WeftError('conflict', `"${key}" has revision ${actual}, not ${expected}: it was changed meanwhile`);
}

/** Why an error is `isUnanswered`. */
const UNANSWERED = new Error('the answer was lost');

/** The error of a transaction that was sent, and whose answer was lost. @param message one line */
export function unansweredError(message: string): WeftError {
  return new WeftError('unreachable', message, { cause: UNANSWERED });
}

/**
 * True for the error of a transaction that may have been made, or may still be, and for one that it is the cause of. Its caller reads what it wanted to write,
 * or tries again with the same expectations: they let it happen only once.
 */
export function isUnanswered(error: unknown): boolean {
  for (let cause = error; cause instanceof WeftError; cause = cause.cause) if (cause.cause === UNANSWERED) return true;
  return false;
}
