/**
 * Makes up for what the shared store does not have of this host: what was written while it was away, and what it lost when
 * it was restored. Each record is read first, and written by compare-and-swap only if it still is this host's to write.
 */
import { WeftError } from '../error.ts';
import type { Change, Entry, Store } from '../store/store.ts';
import { judge } from './judgement.ts';
import { overtaken } from './listing-comparison.ts';
import type { SharedState } from './shared-state.ts';

/** How often one record is tried while others change it. */
const ATTEMPTS = 10;
/** How many records are written at the same time. */
const AT_ONCE = 16;

export interface OwnWritesEnvironment {
  readonly store: Store;
  readonly state: () => SharedState;
  readonly host: string;
  readonly restoredAt: () => number | undefined;
  readonly onLost: (why: string) => void;
}

export class OwnWrites {
  readonly #environment: OwnWritesEnvironment;
  /** Records that the store gets again, or loses again; true for those that this host brings into another cluster. */
  readonly #again = new Map<string, boolean>();

  constructor(environment: OwnWritesEnvironment) {
    this.#environment = environment;
  }

  get isDue(): boolean {
    return this.#again.size > 0 || this.#environment.state().pending.size > 0;
  }

  /** @param isJoining as in `Case` */
  add(keys: readonly string[], isJoining: boolean): void {
    const { pending } = this.#environment.state();
    for (const key of keys) if (!pending.has(key)) this.#again.set(key, isJoining);
  }

  /**
   * Writes what is due, the first one first. What could not be written stays due.
   * @returns what the store has now, and the cluster knows otherwise
   * @throws WeftError of the store
   */
  async run(): Promise<Change[]> {
    const { pending } = this.#environment.state();
    const keys = [...this.#again.keys(), ...pending.all().map(({ key }) => key)];
    const changes: Change[] = [];
    for (let at = 0; at < keys.length; at += AT_ONCE) {
      const results = await Promise.allSettled(keys.slice(at, at + AT_ONCE).map((key) => this.#write(key)));
      for (const result of results) if (result.status === 'fulfilled' && result.value) changes.push(result.value);
      const failed = results.find((result) => result.status === 'rejected');
      if (failed && changes.length === 0) throw failed.reason;
      if (failed) break;
    }
    return changes;
  }

  async #write(key: string): Promise<Change | undefined> {
    const { store, host, restoredAt } = this.#environment;
    const state = this.#environment.state();
    const isJoining = this.#again.get(key) === true;
    for (let attempt = 1; ; attempt++) {
      const [known, pending] = [state.known.get(key), state.pending.get(key)];
      const entry = await store.get(key);
      // It was written once more in the meantime.
      if (state.pending.get(key) !== pending) continue;
      const judgement = judge({ host, known, pending, entry, restoredAt: restoredAt(), isJoining });
      if (judgement === 'take' || judgement === 'lose') return this.#giveUp(key, entry, judgement);
      // Somebody else's by now.
      if (judgement === 'hold') break;
      let stored = entry;
      if (judgement === 'write') {
        const value = pending ? pending.value : known?.value;
        const expect = [{ key, revision: entry?.revision ?? 0 }];
        try {
          const revision = await store.transact({ expect, ...(value ? { put: [{ key, value }] } : { delete: [key] }) });
          stored = value && { key, value, revision };
        } catch (error) {
          if (error instanceof WeftError && error.code === 'conflict' && attempt < ATTEMPTS) continue;
          throw error;
        }
        if (state.pending.get(key) !== pending) continue;
      }
      this.#again.delete(key);
      if (!pending) {
        state.settle(key, stored);
        return undefined;
      }
      await state.settlePending(key, stored);
      return stored && { key, entry: stored };
    }
    this.#again.delete(key);
    return undefined;
  }

  /** What the store has counts. */
  async #giveUp(key: string, entry: Entry | undefined, judgement: 'take' | 'lose'): Promise<Change> {
    const state = this.#environment.state();
    state.take({ key, entry });
    await state.settlePending(key, entry);
    this.#again.delete(key);
    if (judgement === 'lose') {
      const why = overtaken(key, entry);
      state.lose(key, why);
      this.#environment.onLost(why);
    }
    return { key, entry };
  }
}
