/** The feed of a host with a store of its own: everything that the store holds is in force. */
import type { AcceptReport } from '../../model/report.ts';
import type { Change, Entry, Store, Transaction, WatchEvent } from '../../store/store.ts';
import type { Feed, News } from './feed.ts';
import { migration } from '../migration.ts';

export class LocalFeed implements Feed {
  readonly store: Store;
  /** Events that the watch has reported and that nobody has taken yet. */
  readonly #events: WatchEvent[] = [];
  /** The keys of everything that was passed on. */
  #keys = new Set<string>();
  #onNews = (): void => {};
  #stopWatch = (): void => {};
  /** The last revision that the watch has reported; Infinity when everything must be listed again. */
  #told = 0;
  readonly #onTold = new Set<() => void>();

  constructor(store: Store) {
    this.store = store;
  }

  async start(onNews: () => void): Promise<void> {
    this.#onNews = onNews;
    const migrated = migration((await this.store.list('')).entries);
    if (migrated) await this.store.transact(migrated);
    this.#events.push({ kind: 'compacted' });
  }

  waitsFor(): undefined {}

  async next(): Promise<News | undefined> {
    const event = this.#events.shift();
    if (!event) return undefined;
    if (event.kind === 'changes') {
      this.#note(event.changes);
      return { ...event, madeAt: event.revision };
    }
    try {
      return await this.#list();
    } catch (error) {
      // Until it has succeeded, the watch stays without a place: the next change, or the upkeep, tries again.
      this.#events.unshift(event);
      throw error;
    }
  }

  async caughtUp(revision: number): Promise<void> {
    while (this.#told < revision) await new Promise<void>((resolve) => this.#onTold.add(resolve));
  }

  async knows(revision: number): Promise<boolean> {
    await this.caughtUp(revision);
    return true;
  }

  async readable(): Promise<void> {}

  mustWait(): undefined {}

  /** The store has everything that it says. */
  async kept(): Promise<void> {}

  async ask(): Promise<void> {}

  get(key: string): Promise<Entry | undefined> {
    return this.store.get(key);
  }

  transact(transaction: Transaction): Promise<number> {
    return this.store.transact(transaction);
  }

  failure(): undefined {}

  report(): null {
    return null;
  }

  async accept(): Promise<AcceptReport> {
    return { accepted: [] };
  }

  async close(): Promise<void> {
    this.#stopWatch();
  }

  async #list(): Promise<News> {
    const { revision, entries } = await this.store.list('');
    const keys = new Set(entries.map(({ key }) => key));
    const lost = [...this.#keys].filter((key) => !keys.has(key)).map((key) => ({ key, entry: undefined }));
    this.#keys = new Set(keys);
    this.#stopWatch();
    this.#told = revision;
    this.#stopWatch = this.store.watch('', revision + 1, (event) => {
      this.#events.push(event);
      this.#told = event.kind === 'changes' ? event.revision : Infinity;
      for (const tell of this.#onTold) tell();
      this.#onTold.clear();
      this.#onNews();
    });
    return {
      revision,
      keys,
      repeats: true,
      changes: [...lost, ...entries.map((entry) => ({ key: entry.key, entry }))],
    };
  }

  #note(changes: readonly Change[]): void {
    for (const { key, entry } of changes) {
      if (entry) this.#keys.add(key);
      else this.#keys.delete(key);
    }
  }
}
