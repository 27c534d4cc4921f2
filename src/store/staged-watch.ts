/**
 * A watch on a store with staged transactions (`staged.ts`). What is staged is reported when the
 * transaction is done, as a change at that one revision, and never before.
 *
 * Whatever was staged before the watch begins is read first, if a transaction is under way. Entries that are stored but not
 * visible are remembered, so that nothing is reported when they are cleaned up; only of those that an earlier transaction has
 * left behind it is reported that they are gone.
 *
 * Somebody may put back a dump of the store, entry by entry, and what was staged when that was made is marked in it still.
 * Nobody has seen the beginning of such a transaction: its entries are reported one by one, as they are put back, and its end
 * as a place that is lost.
 */
import { isStagingKey, markedWith, STAGED, StagedIds, stagingKey, visible } from './staged-ids.ts';
import type { Change, Entry, Store, WatchEvent } from './store.ts';
import { eachInTurns } from '../turns.ts';

const LOOKED_AT_PER_TURN = 4096;

export function watchStaged(
  store: Store,
  prefix: string,
  from: number,
  listener: (event: WatchEvent) => void,
): () => void {
  let stop = (): void => {};
  let isStopped = false;
  const begin = async (): Promise<void> => {
    const view = new StagedView();
    try {
      const { entries: staging } = await store.list(STAGED, from - 1);
      const ids = new StagedIds(staging);
      // Nearly always there is none, and what others have marked may be all of a large store.
      const marked = ids.open.size === 0 ? [] : (await store.list('', from - 1)).entries;
      await view.begin(ids, marked);
    } catch {
      // That revision is forgotten, or the store cannot be read now. Whoever watches lists again, which says what is wrong.
      if (!isStopped) listener({ kind: 'compacted' });
      return;
    }
    if (isStopped) return;
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
  #open = new Set<string>();
  #doneAt = new Map<string, number>();
  /** The marked entries of transactions under way, by ID. */
  readonly #marked = new Map<string, Map<string, Entry>>();
  /** The keys of entries that are stored but not visible. */
  readonly #unseen = new Set<string>();

  /** @param entries all that may be marked with those that are under way */
  async begin({ open, doneAt }: StagedIds, entries: readonly Entry[]): Promise<void> {
    [this.#open, this.#doneAt] = [open, doneAt];
    await eachInTurns(entries, LOOKED_AT_PER_TURN, (entry) => {
      const id = markedWith(entry);
      if (id === undefined) return;
      if (open.has(id)) this.#note(id, entry);
      if (!visible(entry, doneAt.get(id))) this.#unseen.add(entry.key);
    });
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
