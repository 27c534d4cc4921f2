/**
 * A watch on a store with staged transactions (`staged.ts`). What is staged is reported when the
 * transaction is done, as a change at that one revision, and never before.
 *
 * Whatever was staged before the watch begins is read first. Entries that are stored but not visible
 * are remembered, so that nothing is reported when they are cleaned up; only of those that a transaction
 * left behind long ago it is reported that they are gone.
 *
 * Somebody may put back a dump of the store, entry by entry, and what was staged when that was made is marked in it still.
 * Nobody has seen the beginning of such a transaction: its entries are reported one by one, as they are put back, and its end
 * as a place that is lost.
 */
import { isStagingKey, markedWith, STAGED, StagedIds, stagingKey, visible } from './staged-ids.ts';
import type { Change, Entry, Store, WatchEvent } from './store.ts';

export function watchStaged(
  store: Store,
  prefix: string,
  from: number,
  listener: (event: WatchEvent) => void,
): () => void {
  let stop = (): void => {};
  let isStopped = false;
  const begin = async (): Promise<void> => {
    let entries: readonly Entry[];
    try {
      // Nearly always, nothing is staged, and then there is nothing to know.
      const staging = await store.list(STAGED, from - 1);
      entries = staging.entries.length === 0 ? [] : (await store.list('', from - 1)).entries;
    } catch {
      // That revision is forgotten, or the store cannot be read now. Whoever watches lists again, which says what is wrong.
      if (!isStopped) listener({ kind: 'compacted' });
      return;
    }
    if (isStopped) return;
    const view = new StagedView(entries);
    stop = store.watch('', from, (event) => {
      if (event.kind === 'compacted') {
        listener(event);
        return;
      }
      if (view.isEndOfUnknown(event.changes)) {
        isStopped = true;
        stop();
        listener({ kind: 'compacted' });
        return;
      }
      const changes = view.see(event.revision, event.changes).filter(({ key }) => key.startsWith(prefix));
      if (changes.length > 0) listener({ kind: 'changes', revision: event.revision, changes });
    });
  };
  void begin();
  return () => {
    isStopped = true;
    stop();
  };
}

class StagedView {
  readonly #open: Set<string>;
  readonly #doneAt: Map<string, number>;
  /** The marked entries of transactions under way, by ID. */
  readonly #marked = new Map<string, Map<string, Entry>>();
  /** The keys of entries that are stored but not visible. */
  readonly #unseen = new Set<string>();

  constructor(entries: readonly Entry[]) {
    const ids = new StagedIds(entries);
    this.#open = ids.open;
    this.#doneAt = ids.doneAt;
    for (const entry of entries) {
      const id = markedWith(entry);
      if (id === undefined) continue;
      if (this.#open.has(id)) this.#note(id, entry);
      if (!visible(entry, ids.doneAt.get(id))) this.#unseen.add(entry.key);
    }
  }

  /** True if a transaction is done that nobody has begun: entries that it has marked may be there already. */
  isEndOfUnknown(changes: readonly Change[]): boolean {
    return changes.some(({ key, entry }) => {
      const staging = stagingKey(key);
      return entry !== undefined && staging?.state === 'done' && !this.#open.has(staging.id);
    });
  }

  /** Turns the changes of one transaction into what readers see. */
  see(revision: number, changes: readonly Change[]): Change[] {
    const seen: Change[] = [];
    for (const { key, entry } of changes) {
      const staging = stagingKey(key);
      if (staging?.state === 'done') {
        if (entry) for (const change of this.#done(staging.id, revision)) seen.push(change);
        else this.#doneAt.delete(staging.id);
      }
      if (staging || isStagingKey(key)) continue;
      const id = markedWith(entry);
      if (entry && id !== undefined) {
        const isOpen = this.#open.has(id);
        if (isOpen) this.#note(id, entry);
        const shown = visible(entry, isOpen ? undefined : this.#doneAt.get(id));
        if (!shown) this.#unseen.add(key);
        else if (!isOpen) {
          this.#unseen.delete(key);
          seen.push({ key, entry: shown });
        }
      } else {
        const wasUnseen = this.#unseen.delete(key);
        if (entry || !wasUnseen) seen.push({ key, entry });
      }
    }
    for (const { key, entry } of changes) {
      const staging = stagingKey(key);
      if (staging?.state !== 'open') continue;
      if (entry) this.#open.add(staging.id);
      else this.#close(staging.id);
    }
    return seen;
  }

  #note(id: string, entry: Entry): void {
    const marked = this.#marked.get(id);
    if (marked) marked.set(entry.key, entry);
    else this.#marked.set(id, new Map([[entry.key, entry]]));
  }

  #done(id: string, revision: number): Change[] {
    this.#doneAt.set(id, revision);
    const marked = [...(this.#marked.get(id)?.values() ?? [])];
    return marked.flatMap((entry) => {
      const before = visible(entry, undefined);
      const after = visible(entry, revision);
      if (after) this.#unseen.delete(entry.key);
      else this.#unseen.add(entry.key);
      return after?.revision === before?.revision ? [] : [{ key: entry.key, entry: after }];
    });
  }

  #close(id: string): void {
    this.#open.delete(id);
    this.#marked.delete(id);
  }
}
