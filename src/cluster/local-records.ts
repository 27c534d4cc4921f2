/**
 * What only this host knows about its endpoints: port number, namespace, interface, and what weft
 * has given to the interface. It is stored under `attachments/` in the host's own store, never in the
 * cluster's. Without it, the next start would not recognize its own interfaces.
 *
 * Only this daemon writes these records, so what it has read at its start and written since is what is stored.
 */
import type { Store, Transaction } from '../store/store.ts';
import type { LocalRecord } from './endpoint.ts';
import { idOf, nameOf } from '../model/resource.ts';

const PREFIX = 'attachments/';

export class LocalRecords {
  readonly #store: Store;
  readonly #warn: (message: string, details: object) => void;
  readonly #records = new Map<string, { readonly record: LocalRecord; readonly revision: number }>();

  constructor(store: Store, warn: (message: string, details: object) => void) {
    this.#store = store;
    this.#warn = warn;
  }

  find(name: string): LocalRecord | undefined {
    return this.#records.get(name)?.record;
  }

  names(): string[] {
    return [...this.#records.keys()];
  }

  /** Reads what an earlier daemon has stored. Called once, before anything else. */
  async load(): Promise<void> {
    for (const { key, value, revision } of (await this.#store.list(PREFIX)).entries) {
      const [namespace, name = ''] = key.slice(PREFIX.length).split('/');
      this.#records.set(idOf({ name, namespace }), { record: value as LocalRecord, revision });
    }
  }

  /** Stores or removes records. @throws WeftError if that fails; then nothing has changed */
  async save(changes: ReadonlyMap<string, LocalRecord | undefined>): Promise<void> {
    const { transaction, stored } = this.change(changes);
    if (transaction.expect.length > 0) stored(await this.#store.transact(transaction));
  }

  /** What `save` stores, for whoever stores more with it, and says when that is stored, at its revision. */
  change(changes: ReadonlyMap<string, LocalRecord | undefined>): {
    readonly transaction: Required<Transaction>;
    readonly stored: (revision: number) => void;
  } {
    const names = [...changes.keys()].filter((name) => changes.get(name) !== undefined || this.#records.has(name));
    const transaction = {
      expect: names.map((name) => ({ key: keyOf(name), revision: this.#records.get(name)?.revision ?? 0 })),
      put: names.flatMap((name) => {
        const record = changes.get(name);
        return record ? [{ key: keyOf(name), value: record }] : [];
      }),
      delete: names.filter((name) => changes.get(name) === undefined).map(keyOf),
    };
    const stored = (revision: number): void => {
      for (const name of names) {
        const record = changes.get(name);
        if (record) this.#records.set(name, { record, revision });
        else this.#records.delete(name);
      }
    };
    return { transaction, stored };
  }

  /** Like `save`, but only warns if it fails. @returns false then; the next check of the interfaces tries again */
  async trySave(changes: ReadonlyMap<string, LocalRecord | undefined>): Promise<boolean> {
    try {
      await this.save(changes);
      return true;
    } catch (error) {
      this.#warn('what this host knows of its interfaces is not stored', { error: (error as Error).message });
      return false;
    }
  }
}

function keyOf(name: string): string {
  const { namespace, name: own } = nameOf(name);
  return `${PREFIX}${namespace}/${own}`;
}
