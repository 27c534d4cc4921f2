/** A shared store for those who write records of their own: what they read and write goes the way of the feed. */
import { StoreOnAnother } from '../../store/on-another.ts';
import type { Entry, KnownKey, Listing, Store, Transaction, WatchEvent } from '../../store/store.ts';
import type { Feed } from './feed.ts';

export class StoreBehindFeed extends StoreOnAnother {
  readonly operationLimit: number;
  readonly lengthLimitBytes: number;
  readonly #feed: Pick<Feed, 'get' | 'transact'>;

  constructor(store: Store, feed: Pick<Feed, 'get' | 'transact'>) {
    super(store);
    this.operationLimit = store.operationLimit;
    this.lengthLimitBytes = store.lengthLimitBytes;
    this.#feed = feed;
  }

  get(key: string): Promise<Entry | undefined> {
    return this.#feed.get(key);
  }

  transact(transaction: Transaction): Promise<number> {
    return this.#feed.transact(transaction);
  }

  list(prefix: string, at?: number, knownKey?: KnownKey): Promise<Listing> {
    return this.store.list(prefix, at, knownKey);
  }

  watch(prefix: string, from: number, listener: (event: WatchEvent) => void): () => void {
    return this.store.watch(prefix, from, listener);
  }

  close(): Promise<void> {
    return this.store.close();
  }
}
