/**
 * What would be lost here if this host joined the cluster whose store it has met: it has in force then what that cluster has, and
 * brings its own endpoints along. Those that cannot be in force there are told, too: one whose address, MAC or name another host
 * has there is given up, and one whose addresses do not fit its network there waits.
 */
import type { HeldRecordReport } from '../../model/held.ts';
import type { Entry, Listing } from '../../store/store.ts';
import { eachInTurns } from '../../turns.ts';
import { nameOfKey, resourceAt } from '../keys.ts';
import { clashesOf } from './clashes.ts';
import { judge } from './judgement.ts';
import { ownerOf } from './known-records.ts';
import { misfitsIn } from './misfits.ts';
import type { SharedState } from './shared-state.ts';
import { eachUnlisted } from './unlisted.ts';

const COMPARED_PER_TURN = 256;

/**
 * The resources that would go, change, or wait. Records of other kinds differ anyway.
 * @param host the name of this host @returns what this host cannot bring along comes first
 */
export async function lossesBy(host: string, state: SharedState, listing: Listing): Promise<HeldRecordReport[]> {
  const { entries } = listing;
  const clashes = await clashesOf(host, [...state.own(), ...state.pending.all()], entries, undefined);
  const misfitOf = await misfitsIn(entries);
  const losses = new Map<string, HeldRecordReport>();
  const note = (key: string, entry: Entry | undefined): void => {
    const known = state.known.get(key);
    if (!known || !resourceAt(key)) return;
    const pending = state.pending.get(key);
    const judgement = judge({ host, known, pending, entry, restoredAt: undefined, isJoining: true });
    const name = nameOfKey(key);
    const clash = clashes.get(key);
    const misfit = state.isOwn(key) ? misfitOf(known) : undefined;
    if (clash && (pending || judgement === 'write')) {
      losses.set(key, { name, change: 'deleted', why: `${clash.taken} is that of ${clash.owner} there` });
    } else if (judgement === 'take' || judgement === 'lose') {
      const owner = ownerOf(entry?.value);
      const why =
        state.isOwn(key) && owner !== undefined && owner !== host ? `host "${owner}" has it there` : undefined;
      losses.set(key, { name, change: entry ? 'changed' : 'deleted', ...(why !== undefined && { why }) });
    } else if (misfit !== undefined) {
      losses.set(key, { name, change: 'waiting', why: `${misfit} there` });
    }
  };
  await eachInTurns(entries, COMPARED_PER_TURN, (entry) => note(entry.key, entry));
  await eachUnlisted(state, listing, (key) => note(key, undefined));
  const all = [...losses.values()];
  return [...all.filter(({ why }) => why !== undefined), ...all.filter(({ why }) => why === undefined)];
}
