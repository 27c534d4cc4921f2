/**
 * What only this host knows about its endpoints: port number, namespace, interface, and what weft
 * has given to the interface. It is stored under `attachments/` in the state directory, not in the
 * shared part of the store. Without it, the next start would not recognize its own interfaces.
 *
 * Only this host writes these records, with compare-and-swap like all others.
 */
import type { Change, Put, Store } from '../store/store.ts';
import type { LocalRecord } from './endpoint.ts';
import { idOf, nameOf } from '../model/resource.ts';

const PREFIX = 'attachments/';

export class LocalRecords {
  readonly #store: Store;
  readonly #records = new Map<string, { readonly record: LocalRecord; readonly revision: number }>();
  /** The revisions at which this host removed some, until the watch has reported that. */
  readonly #removed = new Map<string, number>();

  constructor(store: Store) {
    this.#store = store;
  }

  find(name: string): LocalRecord | undefined {
    return this.#records.get(name)?.record;
  }

  names(): string[] {
    return [...this.#records.keys()];
  }

  /** Prepares a record to be stored in a transaction with others. It becomes known here when the watch reports it. */
  put(name: string, record: LocalRecord): Put & { readonly revision: number } {
    return { key: keyOf(name), value: record, revision: this.#records.get(name)?.revision ?? 0 };
  }

  /**
   * Takes what the watch reports. What this host has stored since then is newer.
   * @param revision of these changes @returns the names of the records that are new or changed
   */
  see(changes: readonly Change[], revision: number): string[] {
    const news: string[] = [];
    for (const { key, entry } of changes) {
      if (!key.startsWith(PREFIX)) continue;
      const [namespace, name = ''] = key.slice(PREFIX.length).split('/');
      const id = idOf({ name, namespace });
      const known = this.#records.get(id);
      if (entry && Math.max(known?.revision ?? 0, this.#removed.get(id) ?? 0) < entry.revision) {
        this.#records.set(id, { record: entry.value as LocalRecord, revision: entry.revision });
        news.push(id);
      }
      if (!entry && known && known.revision < revision) this.#records.delete(id);
    }
    for (const [name, removedAt] of this.#removed) if (removedAt <= revision) this.#removed.delete(name);
    return news;
  }

  /** Forgets those that the store did not have at that revision. @param keys that it had */
  keep(keys: ReadonlySet<string>, revision: number): void {
    for (const [name, known] of this.#records) {
      if (known.revision <= revision && !keys.has(keyOf(name))) this.#records.delete(name);
    }
  }

  /** Stores or removes records. @throws WeftError if that fails; then nothing has changed */
  async save(changes: ReadonlyMap<string, LocalRecord | undefined>): Promise<void> {
    const names = [...changes.keys()].filter((name) => changes.get(name) !== undefined || this.#records.has(name));
    if (names.length === 0) return;
    const revision = await this.#store.transact({
      expect: names.map((name) => ({ key: keyOf(name), revision: this.#records.get(name)?.revision ?? 0 })),
      put: names.flatMap((name) => {
        const record = changes.get(name);
        return record ? [{ key: keyOf(name), value: record }] : [];
      }),
      delete: names.filter((name) => changes.get(name) === undefined).map(keyOf),
    });
    for (const name of names) {
      const record = changes.get(name);
      if (record) this.#records.set(name, { record, revision });
      else {
        this.#records.delete(name);
        this.#removed.set(name, revision);
      }
    }
  }
}

function keyOf(name: string): string {
  const { namespace, name: own } = nameOf(name);
  return `${PREFIX}${namespace}/${own}`;
}
