/**
 * The store: the objects that outlive the daemon, as JSON values under keys
 * like `networks/blue`. Any store that passes `test/store/conformance.ts` will do.
 *
 *   list     all entries under a prefix, as they were at one revision
 *   watch    what changes from a revision on: own changes and others' alike
 *   transact all of it or nothing, if the entries it depends on are unchanged
 *   grant    a lease: entries that disappear when their writer is gone
 *
 * Each transaction has a revision, one more than the one before; an entry carries
 * the revision that wrote it. Writers compare and swap (`expect`) and never lock.
 * Whatever can be read is durable.
 *
 * A store may limit the operations of one transaction (`operationLimit`). Callers do
 * not see that: `staged.ts` makes a store without a limit of any store.
 */

import { WeftError } from '../error.ts';

export interface Entry {
  readonly key: string;
  /** JSON; frozen, since all readers share it. */
  readonly value: unknown;
  /** Of the transaction that wrote it. */
  readonly revision: number;
  /** The lease that it disappears with. */
  readonly lease?: string;
}

/** The entries under a prefix, ordered by key, as they were at `revision`. */
export interface Listing {
  readonly revision: number;
  readonly entries: readonly Entry[];
}

/** Revision 0: there is no such entry. */
export interface Expectation {
  readonly key: string;
  readonly revision: number;
}

export interface Put {
  readonly key: string;
  /** JSON. */
  readonly value: unknown;
  /** A lease that was granted and has not ended. */
  readonly lease?: string;
}

/** All of it happens, or none. No key may be changed twice. */
export interface Transaction {
  /** Entries that have to be as they were read. */
  readonly expect?: readonly Expectation[];
  readonly put?: readonly Put[];
  /** Deleting a key that has no entry is no failure. */
  readonly delete?: readonly string[];
}

export interface Change {
  readonly key: string;
  /** As it is from this revision on; undefined where it was deleted. */
  readonly entry: Entry | undefined;
}

export type WatchEvent =
  /** What one transaction changed under the prefix. Events come in the order of their revisions. */
  | { readonly kind: 'changes'; readonly revision: number; readonly changes: readonly Change[] }
  /** The store has forgotten what happened since then. The watch has ended: list, and watch from there. */
  | { readonly kind: 'compacted' };

export interface Store {
  /** The most expectations, and the most puts and deletions together, that one transaction may have. */
  readonly operationLimit: number;

  get(key: string): Promise<Entry | undefined>;

  /**
   * The entries whose key begins with `prefix`.
   * @param at an earlier revision; by default the latest
   * @throws WeftError('not_found') when the store has forgotten that revision
   */
  list(prefix: string, at?: number): Promise<Listing>;

  /**
   * Resolves with its revision once it is durable. What is passed in can be reused at once.
   * @throws WeftError `conflict` when an expectation is not met, with the revision that the entry has; `not_found` when
   * a lease has ended
   */
  transact(transaction: Transaction): Promise<number>;

  /**
   * Calls `listener` for each transaction from revision `from` on that changes something under `prefix`, never before
   * this returns. Whether an own transaction is told before or after `transact` resolves is open.
   * @returns how to stop
   */
  watch(prefix: string, from: number, listener: (event: WatchEvent) => void): () => void;

  /** Grants a lease that ends after `ttlMs` without `keepAlive`. @returns its id, which no other lease ever has */
  grant(ttlMs: number): Promise<string>;

  /** The lease lasts for its whole time again. @throws WeftError('not_found') when it has ended */
  keepAlive(lease: string): Promise<void>;

  /** Ends a lease: its entries are deleted in one transaction. Nothing happens where it has ended already. */
  revoke(lease: string): Promise<void>;

  /** Waits for the transactions under way; later ones are refused. Watches end without another event. */
  close(): Promise<void>;
}

/** For a store to throw. @param actual the revision that the entry has; 0 without one */
export function conflictError(key: string, actual: number, expected: number): WeftError {
  return new WeftError('conflict', `"${key}" has revision ${actual}, not ${expected}: it was changed meanwhile`);
}
