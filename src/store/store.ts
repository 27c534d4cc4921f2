/**
 * The store: the objects that outlive the daemon, as JSON values under keys
 * like `networks/blue`.
 *
 * Each transaction that changes something has a revision, one more than the
 * one before; an entry carries the revision that wrote it. Ownership is fenced
 * by these (`expect`), never by a lock. What is read is always durable already.
 */

export interface Entry {
  readonly key: string;
  /** JSON; frozen, since all readers share it. */
  readonly value: unknown;
  readonly revision: number;
}

/** All of it happens, or none. No key may be changed twice. */
export interface Transaction {
  /** Entries that have to be as they were read; revision 0: that there is none. */
  readonly expect?: readonly { readonly key: string; readonly revision: number }[];
  readonly put?: readonly { readonly key: string; readonly value: unknown }[];
  /** A key without an entry is no failure. */
  readonly delete?: readonly string[];
}

export interface Store {
  get(key: string): Promise<Entry | undefined>;
  /** Entries whose key begins with `prefix`, ordered by key. */
  list(prefix: string): Promise<Entry[]>;
  /**
   * Resolves once it is durable. What is passed in can be reused at once.
   * @throws WeftError('conflict') when an expectation is not met
   */
  transact(transaction: Transaction): Promise<void>;
  /** Waits for the transactions under way; later ones are refused. */
  close(): Promise<void>;
}
