/** Follows a store as the cluster does: lists it, watches from there, and lists again when the watch has ended. */
import type { Listing, Store, WatchEvent } from '../../src/store/store.ts';

export interface Followed {
  readonly revision: number;
  readonly key: string;
  /** Undefined if it was deleted. */
  readonly value: unknown;
}

export class Follower {
  readonly entries = new Map<string, unknown>();
  /** Every change that was told, in order. */
  readonly told: Followed[] = [];
  readonly listings: Pick<Listing, 'revision' | 'history'>[] = [];
  /** What a watch must never do. */
  readonly faults: string[] = [];
  readonly #store: Store;
  readonly #prefix: string;
  #last = 0;
  #stop = (): void => {};
  #isEnded = false;

  constructor(store: Store, prefix: string) {
    this.#store = store;
    this.#prefix = prefix;
  }

  /** The revision that it is at. */
  get last(): number {
    return this.#last;
  }

  /** Lists, as often as that takes, and watches from there. */
  async start(): Promise<void> {
    const listing = await this.#list();
    if (!listing) return;
    this.listings.push(listing);
    this.entries.clear();
    for (const { key, value } of listing.entries) this.entries.set(key, value);
    this.#last = listing.revision;
    this.#stop = this.#store.watch(this.#prefix, listing.revision + 1, (event) => this.#take(event));
  }

  end(): void {
    this.#isEnded = true;
    this.#stop();
  }

  async #list(): Promise<Listing | undefined> {
    while (!this.#isEnded) {
      const listing = await this.#store.list(this.#prefix).catch(() => undefined);
      if (listing) return listing;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return undefined;
  }

  #take(event: WatchEvent): void {
    if (this.#isEnded) return;
    if (event.kind === 'compacted') {
      void this.start();
      return;
    }
    if (event.revision <= this.#last) this.faults.push(`${event.revision} was told after ${this.#last}`);
    this.#last = event.revision;
    for (const { key, entry } of event.changes) {
      this.told.push({ revision: event.revision, key, value: entry?.value });
      if (entry && entry.revision !== event.revision) this.faults.push(`${key} has another revision than its change`);
      if (entry) this.entries.set(key, entry.value);
      else this.entries.delete(key);
    }
  }
}
