/** The marks that a staged transaction puts on entries (`staged.ts`), and the keys that record its progress. */
import type { Entry } from './store.ts';

/** The field that marks an entry. */
export const MARK = 'weft.dev/staged';
export const STAGED = 'staged/';
export const OPEN = 'staged/open/';
export const DONE = 'staged/done/';

/** The value of a marked entry. */
export interface Marked {
  readonly [MARK]: string;
  readonly before?: { readonly value: unknown; readonly revision: number };
  /** Missing if the entry will be deleted. */
  readonly after?: { readonly value: unknown };
  /** The entry stays as it was. It is marked so that nobody changes it in the meantime. */
  readonly isRead?: true;
}

export function markedWith(entry: Entry | undefined): string | undefined {
  const value = entry?.value;
  if (typeof value !== 'object' || value === null || !(MARK in value)) return undefined;
  return (value as Marked)[MARK];
}

/** @param doneAt the revision that made the transaction visible; undefined if it is not done */
export function visible(entry: Entry, doneAt: number | undefined): Entry | undefined {
  if (markedWith(entry) === undefined) return entry;
  const { before, after, isRead } = entry.value as Marked;
  const { key } = entry;
  if (doneAt === undefined || isRead) {
    // A mark that somebody put back from a dump may name a revision that the store did not have by then.
    return before && { key, value: before.value, revision: Math.min(before.revision, entry.revision - 1) };
  }
  return after && { key, value: after.value, revision: doneAt };
}

/** Knows which IDs are under way, and at which revisions others were done. */
export class StagedIds {
  readonly open = new Set<string>();
  readonly doneAt = new Map<string, number>();

  constructor(entries: readonly Entry[]) {
    for (const { key, revision } of entries) {
      if (key.startsWith(OPEN)) this.open.add(key.slice(OPEN.length));
      if (key.startsWith(DONE)) this.doneAt.set(key.slice(DONE.length), revision);
    }
  }
}

export function isStagingKey(key: string): boolean {
  return key.startsWith(STAGED);
}

/** The ID in a key that says that a transaction is under way or done. */
export function stagingKey(key: string): { readonly state: 'open' | 'done'; readonly id: string } | undefined {
  if (key.startsWith(OPEN)) return { state: 'open', id: key.slice(OPEN.length) };
  if (key.startsWith(DONE)) return { state: 'done', id: key.slice(DONE.length) };
  return undefined;
}
