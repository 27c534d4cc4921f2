/** What becomes of the changes that the watch of the shared store reports. */
import { isDeepStrictEqual } from 'node:util';
import type { Change, Entry, Listing, WatchEvent } from '../../store/store.ts';
import { LIVE } from '../keys.ts';
import { tellDeletedHost } from './deleted-host.ts';
import type { SharedState } from './shared-state.ts';
import { FORMAT_KEY, readFormat } from './store-identity.ts';

export type ReportedChanges = Extract<WatchEvent, { kind: 'changes' }>;

/** In a store that is not what it was, one transaction that deletes more than this share of everything is held. */
const MASS_SHARE = 1 / 3;
const MASS_LEAST = 16;

/**
 * Notes in the state what comes of them.
 * @param isOwn they were made for this host @param host the name of this one @param onLost told what this host has lost
 * @returns what is to be put into force
 */
export function judgeEvent(
  state: SharedState,
  { revision, changes }: ReportedChanges,
  isOwn: boolean,
  host: string,
  onLost: (why: string) => void,
): readonly Change[] {
  const { known, held, pending, strange } = state;
  const news = changes.filter(({ key, entry }) => {
    // What waits to be written is judged when it is written.
    if (key === FORMAT_KEY || pending.has(key)) return false;
    return entry ? state.storedAt(key) < revision : known.has(key) || held.has(key);
  });
  const deleted = news.filter(({ key, entry }) => !entry && known.has(key));
  const isMass = deleted.length >= MASS_LEAST && deleted.length > known.size * MASS_SHARE;
  const isHeld = strange !== undefined && isMass && !isOwn;
  // What has a lease says what is so at the moment.
  const isKept = ({ key, entry }: Change): boolean => isHeld && !entry && known.has(key) && !known.get(key)!.isLeased;
  const taken = news.filter((change) => !isKept(change));
  for (const change of news) if (isKept(change)) state.hold(change.key, undefined);
  const gone = isOwn ? [] : taken.flatMap(({ key, entry }) => (!entry && state.isOwn(key) ? [key] : []));
  for (const change of taken) state.take(change);
  tellDeletedHost(state, host, gone, onLost);
  return taken;
}

/** Whether there is more than signs of life: then other hosts have something to put into force, even if this one has not. */
export function isOfState({ changes }: ReportedChanges): boolean {
  return changes.some(({ key }) => isStateKey(key));
}

/** When the last change was made of what was read, as far as that shows. */
export function latestIn({ entries }: Listing): number {
  return entries.reduce((latest, { key, revision }) => (isStateKey(key) ? Math.max(latest, revision) : latest), 0);
}

function isStateKey(key: string): boolean {
  return key !== FORMAT_KEY && !key.startsWith(LIVE);
}

/** True if the store has another format from then on than the one that is followed. */
export function leadsAway({ mark }: SharedState, { changes }: ReportedChanges): boolean {
  const isFollowed = (entry: Entry | undefined): boolean => {
    try {
      const format = entry && readFormat(entry);
      return format !== undefined && format.id === mark?.id && isDeepStrictEqual(format.epoch, mark.epoch);
    } catch {
      return false;
    }
  };
  return changes.some(({ key, entry }) => key === FORMAT_KEY && !isFollowed(entry));
}
