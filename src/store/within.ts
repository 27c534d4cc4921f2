/** A part of a store as a store of its own: the entries below a prefix, with their keys relative to it. */
import { WeftError } from '../error.ts';
import { eachInTurns } from '../turns.ts';
import { StoreOnAnother } from './on-another.ts';
import type { Entry, KnownKey, Listing, Store, Transaction, WatchEvent } from './store.ts';

/** How many entries of a listing are renamed in one turn of the event loop. */
const RENAMED_PER_TURN = 1024;

/**
 * @param prefix such as `weft/`
 * @param close called when the part is closed; without it, that leaves `store` open
 */
export function within(store: Store, prefix: string, close = async (): Promise<void> => {}): Store {
  return new Part(store, prefix, close);
}

class Part extends StoreOnAnother {
  readonly operationLimit: number;
  readonly lengthLimitBytes: number;
  readonly #prefix: string;
  readonly close: () => Promise<void>;

  constructor(store: Store, prefix: string, close: () => Promise<void>) {
    super(store);
    this.operationLimit = store.operationLimit;
    this.lengthLimitBytes = store.lengthLimitBytes;
    this.#prefix = prefix;
    this.close = close;
  }

  async get(key: string): Promise<Entry | undefined> {
    const entry = await this.store.get(this.#prefix + key);
    return entry && this.#relative(entry);
  }

  async list(prefix: string, at?: number, knownKey?: KnownKey): Promise<Listing> {
    const listing = await this.store.list(
      this.#prefix + prefix,
      at,
      knownKey && ((key, revision) => knownKey(this.#relativeKey(key), revision)),
    );
    const entries: Entry[] = [];
    await eachInTurns(listing.entries, RENAMED_PER_TURN, (entry) => {
      entries.push(this.#relative(entry));
    });
    return { ...listing, entries };
  }

  async transact({ expect = [], put = [], delete: deleted = [] }: Transaction): Promise<number> {
    const below = <T extends { readonly key: string }>(one: T): T => ({ ...one, key: this.#prefix + one.key });
    try {
      return await this.store.transact({
        expect: expect.map(below),
        put: put.map(below),
        delete: deleted.map((key) => this.#prefix + key),
      });
    } catch (error) {
      if (!(error instanceof WeftError && error.code === 'conflict')) throw error;
      // It names the key, which the caller knows without the prefix.
      throw new WeftError('conflict', error.message.replace(`"${this.#prefix}`, '"'), { cause: error });
    }
  }

  watch(prefix: string, from: number, listener: (event: WatchEvent) => void): () => void {
    return this.store.watch(this.#prefix + prefix, from, (event) => {
      if (event.kind === 'compacted') return listener(event);
      const changes = event.changes.map(({ key, entry }) => ({
        key: this.#relativeKey(key),
        entry: entry && this.#relative(entry),
      }));
      listener({ ...event, changes });
    });
  }

  #relative(entry: Entry): Entry {
    return Object.freeze({ ...entry, key: this.#relativeKey(entry.key) });
  }

  #relativeKey(key: string): string {
    return key.slice(this.#prefix.length);
  }
}
