/**
 * What this host has written while the shared store was away: its own records alone, kept durably in the host's own store
 * under `pending/` until the shared store has them. Of several writes of one record, the last counts, and the first tells
 * which record it takes the place of. A record that was created and deleted leaves nothing, so that containers may come and
 * go for as long as it takes, unless the store may have it already.
 */
import type { Store } from '../../store/store.ts';

const PREFIX = 'pending/';

export interface PendingWrite {
  readonly key: string;
  /** The revision of the record in the shared store that it replaces; 0 if there was none. */
  readonly base: number;
  /** Missing if the record is deleted. */
  readonly value?: object;
}

interface Kept extends PendingWrite {
  /** Writes are made in this order. */
  readonly order: number;
}

export class PendingWrites {
  readonly #own: Store;
  readonly #writes = new Map<string, Kept>();
  /** Keys of what may have been sent to the shared store. */
  readonly #sent = new Set<string>();
  #last = 0;

  constructor(own: Store) {
    this.#own = own;
  }

  /** Reads what an earlier daemon has left. Called once, before anything else. */
  async load(): Promise<void> {
    for (const { value } of (await this.#own.list(PREFIX)).entries) {
      const write = value as Kept;
      this.#writes.set(write.key, write);
      this.#sent.add(write.key);
      this.#last = Math.max(this.#last, write.order);
    }
  }

  get size(): number {
    return this.#writes.size;
  }

  get(key: string): PendingWrite | undefined {
    return this.#writes.get(key);
  }

  has(key: string): boolean {
    return this.#writes.has(key);
  }

  /** In the order in which they were made. */
  all(): readonly PendingWrite[] {
    return [...this.#writes.values()].sort((a, b) => a.order - b.order);
  }

  /** From now on, the shared store may have what is written under these keys. */
  sending(keys: readonly string[]): void {
    for (const key of keys) this.#sent.add(key);
  }

  /** All of them or none. @throws WeftError if they cannot be kept */
  async add(writes: readonly PendingWrite[]): Promise<void> {
    const kept = writes.map((write): Kept => {
      const before = this.#writes.get(write.key);
      return { ...write, base: before?.base ?? write.base, order: ++this.#last };
    });
    const isNothing = ({ key, base, value }: Kept): boolean => !value && base === 0 && !this.#sent.has(key);
    await this.#own.transact({
      put: kept.filter((write) => !isNothing(write)).map((write) => ({ key: PREFIX + write.key, value: write })),
      delete: kept.filter(isNothing).map(({ key }) => PREFIX + key),
    });
    for (const write of kept) {
      if (isNothing(write)) this.#writes.delete(write.key);
      else this.#writes.set(write.key, write);
    }
  }

  /** It takes the place of a record of another cluster. @throws WeftError if that cannot be kept */
  async rebase(key: string, base: number): Promise<void> {
    const write = { ...this.#writes.get(key)!, base };
    await this.#own.transact({ put: [{ key: PREFIX + key, value: write }] });
    this.#writes.set(key, write);
  }

  /** The shared store has them, or they are given up. @throws WeftError if that cannot be kept; then they are still pending */
  async settle(keys: readonly string[]): Promise<void> {
    await this.#own.transact({ delete: keys.map((key) => PREFIX + key) });
    for (const key of keys) {
      this.#writes.delete(key);
      this.#sent.delete(key);
    }
  }
}
