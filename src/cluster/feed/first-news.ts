/** What the cluster gets of a shared store that was read, and what one gets that knows nothing yet. */
import type { Change, Entry, Listing } from '../../store/store.ts';
import type { News } from './feed.ts';
import type { SharedState } from './shared-state.ts';

/** Everything that is in force, for a cluster that knows nothing yet. @param changes to what was in force before */
export function firstNews(state: SharedState, changes: readonly Change[]): News {
  const copied = state.takeCopied(changes);
  const revision = state.mark?.revision ?? 0;
  if (!copied) {
    // What was written while the store was away is this host's, also if its copy is lost.
    const own = state.unstored().map((entry) => ({ key: entry.key, entry }));
    const there = [...changes.filter(({ entry }) => entry), ...own];
    return { revision, changes: there, keys: new Set(there.map(({ key }) => key)) };
  }
  // What was in force comes before what was not, or may not be: of records that clash, it is the same ones again.
  const { before, refused } = copied;
  const isNews = ({ key }: Entry): boolean => before.has(key) || refused.has(key);
  const entries = [...copied.entries.values()];
  const ordered = [...entries.filter((entry) => !isNews(entry)), ...entries.filter(isNews)];
  const all = ordered.map((entry) => ({ key: entry.key, entry }));
  return { revision, changes: all, keys: copied.entries, before };
}

/**
 * All that was read of a store that was known before.
 * @param made what this host had made when revisions began anew, and nobody has put into force yet
 */
export function listedNews(
  { known }: SharedState,
  { revision }: Listing,
  changes: readonly Change[],
  made: readonly Change[],
): News {
  const read = new Set(changes.map(({ key }) => key));
  const all = [...made.filter(({ key }) => !read.has(key)), ...changes];
  return { revision, changes: all, ...(all.length > 0 && { keys: known }) };
}
