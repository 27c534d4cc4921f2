/** What would be lost here if this host joined the cluster whose store it has met: it has in force then what that cluster has. */
import type { HeldRecordReport } from '../../model/report.ts';
import type { Entry, Listing } from '../../store/store.ts';
import { eachInTurns } from '../../turns.ts';
import { nameOfKey, resourceAt } from '../keys.ts';
import { judge } from './judgement.ts';
import type { SharedState } from './shared-state.ts';
import { eachUnlisted } from './unlisted.ts';

const COMPARED_PER_TURN = 256;

/** The resources that would go, or change. Records of other kinds differ anyway. @param host the name of this host */
export async function lossesBy(host: string, state: SharedState, listing: Listing): Promise<HeldRecordReport[]> {
  const losses = new Map<string, HeldRecordReport>();
  const note = (key: string, entry: Entry | undefined): void => {
    const known = state.known.get(key);
    if (!known || !resourceAt(key)) return;
    const pending = state.pending.get(key);
    const judgement = judge({ host, known, pending, entry, restoredAt: undefined, isJoining: true });
    if (judgement === 'take' || judgement === 'lose')
      losses.set(key, { name: nameOfKey(key), change: entry ? 'changed' : 'deleted' });
  };
  await eachInTurns(listing.entries, COMPARED_PER_TURN, (entry) => note(entry.key, entry));
  await eachUnlisted(state, listing, (key) => note(key, undefined));
  return [...losses.values()];
}
