/**
 * A client of a store that several hosts share, whose connection the test controls: it can be away, lose an answer, lose
 * changes on their way, and find another store when it is back.
 */
import { WeftError } from '../../src/error.ts';
import {
  unansweredError,
  type Change,
  type Entry,
  type KnownKey,
  type Listing,
  type Store,
  type StoreHealth,
  type Transaction,
  type WatchEvent,
} from '../../src/store/store.ts';

/** The name of the history of each embedded store. */
const HISTORY = 'embedded';

interface Watching {
  readonly prefix: string;
  readonly listener: (event: WatchEvent) => void;
  next: number;
  stop: () => void;
}

export class Switchable implements Store {
  readonly operationLimit = Infinity;
  readonly lengthLimitBytes = Infinity;
  #store: Store;
  #isReachable = true;
  /** How many connections there were. */
  #connections = 1;
  #since = 0;
  /** Added to the name of the history of the store. */
  history = '';
  readonly #watching = new Set<Watching>();
  readonly #listeners = new Set<(health: StoreHealth) => void>();
  /** The next transaction is made, and its answer lost: then the store is away, and nothing is heard of it before. */
  losesAnswer = false;
  /** Changes for which this is true are not reported. */
  isLost: (change: Change) => boolean = () => false;
  /** Gets what reports changes, which it may call later, in that order. */
  delay: ((report: () => void) => void) | undefined;
  /** Runs before a listing is answered. It may return what is answered. */
  beforeList: () => Promise<Listing | void> = async () => {};
  /** What the next listing says instead. */
  listing: Listing | undefined;
  /** Runs before each call is answered; what it throws is the answer. */
  beforeCall: (call: 'get' | 'list' | 'transact') => Promise<void> = async () => {};
  /** Why it takes nothing that is written, as its health says. */
  takesNothing: string | undefined;
  /** Watches do not notice that another store is there, if it is far enough: they go on in its history. */
  isBlind = false;
  lists = 0;
  /** The last answer of the store itself. */
  listed: Listing | undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  away(): void {
    if (!this.#isReachable) return;
    this.#isReachable = false;
    this.#since += 1000;
    for (const watching of this.#watching) watching.stop();
    this.#tell();
  }

  /** @param store what is there now, if that is another one @param history its name */
  back(store = this.#store, history = this.history): void {
    const isOther = store !== this.#store || history !== this.history;
    this.#store = store;
    this.history = history;
    this.#isReachable = true;
    this.#connections++;
    for (const watching of [...this.#watching]) {
      if (!isOther || this.isBlind) this.#watch(watching);
      else if (this.#watching.delete(watching)) watching.listener({ kind: 'compacted' });
    }
    this.#tell();
  }

  /** Forgets where watches are. */
  compact(): void {
    for (const watching of [...this.#watching]) {
      watching.stop();
      if (this.#watching.delete(watching)) watching.listener({ kind: 'compacted' });
    }
  }

  health(): StoreHealth {
    const since = Date.UTC(2026, 0, 1) + this.#since;
    if (this.#isReachable) {
      const { takesNothing = this.takesNothing, history = HISTORY } = this.#store.health();
      return {
        isReachable: true,
        history: history + this.history,
        ...(takesNothing !== undefined && { takesNothing }),
      };
    }
    return { isReachable: false, since, why: 'connection refused' };
  }

  onHealth(listener: (health: StoreHealth) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async get(key: string): Promise<Entry | undefined> {
    await this.beforeCall('get');
    this.#need();
    return this.#store.get(key);
  }

  async list(prefix: string, at?: number, knownKey?: KnownKey): Promise<Listing> {
    this.lists++;
    const { listing: other } = this;
    this.listing = undefined;
    if (other) return other;
    const earlier = await this.beforeList();
    await this.beforeCall('list');
    this.#need();
    const listing = earlier ?? (await this.#store.list(prefix, at, knownKey));
    return (this.listed = { ...listing, history: listing.history + this.history });
  }

  async transact(transaction: Transaction): Promise<number> {
    await this.beforeCall('transact');
    this.#need();
    if (!this.losesAnswer) return this.#store.transact(transaction);
    this.losesAnswer = false;
    for (const watching of this.#watching) watching.stop();
    const connection = this.#connections;
    await this.#store.transact(transaction);
    // Another connection that was made meanwhile stays.
    if (connection === this.#connections) this.away();
    throw unansweredError('the connection was reset');
  }

  watch(prefix: string, from: number, listener: (event: WatchEvent) => void): () => void {
    const watching = { prefix, listener, next: from, stop: () => {} };
    this.#watching.add(watching);
    if (this.#isReachable) this.#watch(watching);
    return () => {
      watching.stop();
      this.#watching.delete(watching);
    };
  }

  async grant(ttlMs: number): Promise<string> {
    this.#need();
    return this.#store.grant(ttlMs);
  }

  async keepAlive(lease: string): Promise<void> {
    this.#need();
    return this.#store.keepAlive(lease);
  }

  async revoke(lease: string): Promise<void> {
    this.#need();
    return this.#store.revoke(lease);
  }

  async close(): Promise<void> {
    for (const watching of this.#watching) watching.stop();
    this.#watching.clear();
  }

  #watch(watching: Watching): void {
    watching.stop();
    watching.stop = this.#store.watch(watching.prefix, watching.next, (event) => {
      if (event.kind === 'compacted') {
        this.#watching.delete(watching);
        return watching.listener(event);
      }
      watching.next = event.revision + 1;
      const changes = event.changes.filter((change) => !this.isLost(change));
      const report = (): void => watching.listener({ ...event, changes });
      if (changes.length === 0) return;
      if (this.delay) this.delay(report);
      else report();
    });
  }

  #need(): void {
    if (!this.#isReachable) throw new WeftError('unreachable', 'connection refused');
  }

  #tell(): void {
    for (const listener of this.#listeners) listener(this.health());
  }
}
