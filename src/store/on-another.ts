/** A store on top of another one: what it does not change about it is passed on. */
import type { Entry, KnownKey, Listing, Store, StoreHealth, Transaction, WatchEvent } from './store.ts';

export abstract class StoreOnAnother implements Store {
  abstract readonly operationLimit: number;
  abstract readonly lengthLimitBytes: number;
  /** The other one. */
  protected readonly store: Store;

  constructor(store: Store) {
    this.store = store;
  }

  abstract get(key: string): Promise<Entry | undefined>;
  abstract list(prefix: string, at?: number, knownKey?: KnownKey): Promise<Listing>;
  abstract transact(transaction: Transaction): Promise<number>;
  abstract watch(prefix: string, from: number, listener: (event: WatchEvent) => void): () => void;
  abstract close(): Promise<void>;

  grant(ttlMs: number): Promise<string> {
    return this.store.grant(ttlMs);
  }

  keepAlive(lease: string): Promise<void> {
    return this.store.keepAlive(lease);
  }

  revoke(lease: string): Promise<void> {
    return this.store.revoke(lease);
  }

  health(): StoreHealth {
    return this.store.health();
  }

  onHealth(listener: (health: StoreHealth) => void): () => void {
    return this.store.onHealth(listener);
  }
}
