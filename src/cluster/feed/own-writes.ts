/**
 * Makes up for what the shared store does not have of this host: what was written while it was away, and what it lost when
 * it was restored. Each record is read first, and written by compare-and-swap only if it still is this host's to write. They
 * are written in the order in which they were made, so that nobody sees an address that one endpoint gave to the next with
 * both of them.
 */
import { WeftError } from '../../error.ts';
import type { Change, Entry, Store } from '../../store/store.ts';
import { judge, type Judgement } from './judgement.ts';
import type { KnownRecord } from './known-records.ts';
import { overtaken } from './listing-comparison.ts';
import type { PendingWrite } from './pending-writes.ts';
import type { SharedState } from './shared-state.ts';

/** How many records are written in one transaction. */
const AT_ONCE = 32;
/** How often a record is tried while others change it. */
const ATTEMPTS = 10;

export interface OwnWritesEnvironment {
  readonly store: Store;
  readonly state: () => SharedState;
  readonly host: string;
  readonly restoredAt: () => number | undefined;
  readonly onLost: (why: string) => void;
  /** Called with what the store has now, and the cluster knows otherwise. */
  readonly onChanges: (changes: readonly Change[]) => void;
}

/** A record that is due, as it is known here and in the store. */
interface Due {
  readonly key: string;
  readonly known: KnownRecord | undefined;
  readonly pending: PendingWrite | undefined;
  readonly entry: Entry | undefined;
  readonly judgement: Judgement;
}

export class OwnWrites {
  readonly #environment: OwnWritesEnvironment;
  /** Records that the store gets again, or loses again. */
  readonly #again = new Set<string>();

  constructor(environment: OwnWritesEnvironment) {
    this.#environment = environment;
  }

  get isDue(): boolean {
    return this.#again.size > 0 || this.#environment.state().pending.size > 0;
  }

  add(keys: readonly string[]): void {
    const { pending } = this.#environment.state();
    for (const key of keys) if (!pending.has(key)) this.#again.add(key);
  }

  /**
   * Writes some of what is due, the first one first. What could not be written stays due.
   * @throws WeftError of the store, or of this host's own
   */
  async run(): Promise<void> {
    const { pending } = this.#environment.state();
    const again = [...this.#again].filter((key) => !pending.has(key));
    const keys = [...again, ...pending.all().map(({ key }) => key)].slice(0, AT_ONCE);
    try {
      return await this.#write(keys);
    } catch (error) {
      if (!isConflict(error)) throw error;
    }
    // Others are changing some of them.
    const [first] = keys;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#write([first!]);
      } catch (error) {
        if (!isConflict(error) || attempt === ATTEMPTS) throw error;
      }
    }
  }

  async #write(keys: readonly string[]): Promise<void> {
    const { store } = this.#environment;
    const state = this.#environment.state();
    const all = await Promise.all(keys.map((key) => this.#judge(key)));
    const written = all.filter(({ judgement }) => judgement === 'write');
    const put: { key: string; value: object }[] = [];
    const deleted: string[] = [];
    for (const { key, pending: write, known } of written) {
      const value = write ? write.value : known?.value;
      if (value) put.push({ key, value });
      else deleted.push(key);
    }
    const expect = written.map(({ key, entry }) => ({ key, revision: entry?.revision ?? 0 }));
    state.pending.sending(written.flatMap(({ key, pending }) => (pending ? [key] : [])));
    const revision = written.length === 0 ? 0 : await store.transact({ expect, put, delete: deleted });
    const made = new Map(put.map((one) => [one.key, { ...one, revision }]));
    const changes: Change[] = [];
    const settled: Change[] = [];
    for (const due of all) {
      // What was written once more in the meantime is due now.
      if (state.pending.get(due.key) !== due.pending) continue;
      const stored = due.judgement === 'write' ? made.get(due.key) : due.entry;
      this.#settle(due, stored);
      const isNews = due.pending ? stored && due.known?.revision !== stored.revision : due.judgement === 'take';
      if (isNews || due.judgement === 'lose') changes.push({ key: due.key, entry: stored });
      if (due.pending) settled.push({ key: due.key, entry: stored });
    }
    if (changes.length > 0) this.#environment.onChanges(changes);
    await state.settlePending(settled);
  }

  async #judge(key: string): Promise<Due> {
    const { store, host, restoredAt } = this.#environment;
    const entry = await store.get(key);
    const state = this.#environment.state();
    const [known, pending] = [state.known.get(key), state.pending.get(key)];
    const judgement = judge({ host, known, pending, entry, restoredAt: restoredAt() });
    return { key, known, pending, entry, judgement };
  }

  /** @param stored what the store has now */
  #settle({ key, pending, judgement }: Due, stored: Entry | undefined): void {
    const state = this.#environment.state();
    this.#again.delete(key);
    switch (judgement) {
      case 'hold':
        return;
      case 'same':
      case 'write':
        if (!pending) state.settle(key, stored);
        return;
      case 'take':
        state.take({ key, entry: stored });
        return;
      case 'lose': {
        const why = overtaken(key, stored);
        state.take({ key, entry: stored });
        state.lose(key, why);
        this.#environment.onLost(why);
        return;
      }
      default:
        judgement satisfies never;
    }
  }
}

function isConflict(error: unknown): boolean {
  return error instanceof WeftError && error.code === 'conflict';
}
