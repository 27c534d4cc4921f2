/** What a cluster that knows nothing yet gets from what is known of a shared store. */
import type { Change, Entry } from '../../store/store.ts';
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
