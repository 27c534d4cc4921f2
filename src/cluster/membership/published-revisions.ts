/**
 * What each host has published as in force (`presence.ts`): read when somebody asks, and followed while somebody waits, so that
 * what one host publishes then costs nothing for each of the others.
 */
import { appliedRecord } from '../../model/records.ts';
import type { Change, Entry, Store, WatchEvent } from '../../store/store.ts';

interface Reported {
  /** Undefined if it was deleted, or is not readable. */
  readonly inForce: number | undefined;
  /** The revision of the record. */
  readonly at: number;
}

export class PublishedRevisions {
  readonly #store: Pick<Store, 'list' | 'watch'>;
  readonly #known = new Map<string, number>();
  readonly #followers = new Set<() => void>();
  #stopWatch: (() => void) | undefined;
  /** While that is followed: the revision of the listing that it began with, or of a later one. */
  #listedAt = 0;
  /** What the watch has reported so far, by host: a listing may be older. */
  readonly #reported = new Map<string, Reported>();
  #beginning: Promise<void> | undefined;

  /** @param store the records by the name of their host */
  constructor(store: Pick<Store, 'list' | 'watch'>) {
    this.#store = store;
  }

  /** As far as it is known; undefined if the host has published nothing. */
  of(host: string): number | undefined {
    return this.#known.get(host);
  }

  /** Reads all of it. @returns the revision of the store @throws WeftError of the store */
  async look(): Promise<number> {
    const { entries, revision } = await this.#store.list('');
    if (revision < this.#listedAt) return revision;
    if (this.#stopWatch) this.#listedAt = revision;
    this.#known.clear();
    for (const entry of entries) this.#note(entry.key, inForceOf(entry));
    for (const [host, { inForce, at }] of this.#reported) if (at > revision) this.#note(host, inForce);
    return revision;
  }

  /** Calls `onChange` with each change, once `begun` has resolved. @returns how to end that */
  follow(onChange: () => void): () => void {
    this.#followers.add(onChange);
    return () => {
      this.#followers.delete(onChange);
      if (this.#followers.size > 0) return;
      this.#stopWatch?.();
      this.#ended();
    };
  }

  /** Resolves when what is known is up to date, and followed from there, or the store does not answer. */
  begun(): Promise<void> {
    if (this.#stopWatch) return Promise.resolve();
    return (this.#beginning ??= this.#begin()
      .catch(() => {})
      .finally(() => (this.#beginning = undefined)));
  }

  async #begin(): Promise<void> {
    const revision = await this.look();
    if (this.#followers.size === 0) return;
    this.#listedAt = revision;
    this.#stopWatch = this.#store.watch('', revision + 1, (event) => this.#take(event));
  }

  #take(event: WatchEvent): void {
    if (event.kind === 'compacted') this.#ended();
    else for (const change of event.changes) this.#report(change, event.revision);
    for (const onChange of [...this.#followers]) onChange();
  }

  #report({ key, entry }: Change, at: number): void {
    const inForce = entry && inForceOf(entry);
    this.#reported.set(key, { inForce, at });
    this.#note(key, inForce);
  }

  #note(host: string, inForce: number | undefined): void {
    if (inForce === undefined) this.#known.delete(host);
    else this.#known.set(host, inForce);
  }

  #ended(): void {
    this.#stopWatch = undefined;
    this.#listedAt = 0;
    this.#reported.clear();
  }
}

/**
 * A host publishes what it has in force after that was written. What says otherwise counts revisions of another history of the
 * store: of one that was lost since, as long as its host has not noticed that.
 */
function inForceOf({ value, revision: writtenAt }: Entry): number | undefined {
  const revision = appliedRecord.safeParse(value).data?.revision;
  return revision !== undefined && revision < writtenAt ? revision : undefined;
}
