/** Compares all that the shared store has with all that is known here, in turns of the event loop. */
import type { Change, Entry, Listing } from '../../store/store.ts';
import { eachInTurns } from '../../turns.ts';
import { clashesOf, clashText } from './clashes.ts';
import { tellDeletedHost } from './deleted-host.ts';
import { judge } from './judgement.ts';
import { ownerOf } from './known-records.ts';
import { nameOfKey } from '../keys.ts';
import type { SharedState } from './shared-state.ts';
import { FORMAT_KEY } from './store-identity.ts';
import { eachUnlisted } from './unlisted.ts';

const COMPARED_PER_TURN = 256;

export interface ComparisonOptions {
  readonly state: SharedState;
  readonly host: string;
  readonly listing: Listing;
  /** As in `Case`. */
  readonly restoredAt: number | undefined;
  /** As in `Case`. */
  readonly isJoining: boolean;
  /** Keys that were written after the listing. */
  readonly newer: ReadonlySet<string>;
  readonly onLost: (why: string) => void;
  /** Called if this host cannot note that a write of its own is done: it is judged once more, and nothing else is lost. */
  readonly onUnsettled: (error: unknown) => void;
}

export interface Compared {
  /** What is to be put into force. */
  readonly changes: readonly Change[];
  /** Records of this host that the store gets again. */
  readonly write: readonly string[];
  /** Writes of this host that are given up. In a cluster that this host joins they stay pending until all of this is in force. */
  readonly lost: readonly Change[];
}

/** Judges every record, and notes in the state what comes of it. */
export async function compareListing(options: ComparisonOptions): Promise<Compared> {
  const { state, host, listing, restoredAt, isJoining, newer, onLost, onUnsettled } = options;
  const isSameHistory = restoredAt === undefined && !isJoining;
  // What the store does not have of this host is written again, be it that others have taken its place: since a restore, or in the
  // cluster that this host joins.
  const unstored = isSameHistory ? state.pending.all() : [...state.own(), ...state.pending.all()];
  const clashes = await clashesOf(host, unstored, listing.entries, restoredAt);
  const gone: string[] = [];
  const deleted: Change[] = [];
  const put: Change[] = [];
  const change = (key: string, entry: Entry | undefined): void => {
    (entry ? put : deleted).push({ key, entry });
  };
  const write: string[] = [];
  const lost: Change[] = [];
  const settlePending = (settled: Change): Promise<void> => state.settlePending([settled]).catch(onUnsettled);
  /** The usual case, of which there may be a hundred thousand. Revisions of different histories cannot be compared. */
  const isSettled = (key: string, entry: Entry | undefined): boolean => {
    if (newer.has(key)) return true;
    if (!isSameHistory) return false;
    if (entry) return state.isSettled(key, entry.revision);
    return !state.pending.has(key) && !state.held.has(key) && !state.known.has(key);
  };
  /** Most are done at once: a promise for each of a hundred thousand would cost more than they do. */
  const settle = (key: string, entry: Entry | undefined): Promise<void> | undefined => {
    const [known, pending] = [state.known.get(key), state.pending.get(key)];
    const clash = clashes.get(key);
    const judged = judge({ host, known, pending, entry, restoredAt, isJoining });
    const judgement = clash !== undefined && (pending || judged === 'write') ? 'lose' : judged;
    switch (judgement) {
      case 'same':
        state.settle(key, entry);
        if (!pending) return undefined;
        return settlePending({ key, entry }).then(() => {
          if (entry) change(key, entry);
        });
      case 'hold':
        state.hold(key, entry);
        return undefined;
      case 'write':
        if (isJoining && !pending) state.bring(key);
        write.push(key);
        return isJoining && pending ? state.pending.rebase(key, entry?.revision ?? 0).catch(onUnsettled) : undefined;
      case 'lose': {
        const why = clash ? clashText(key, clash) : overtaken(key, entry);
        state.take({ key, entry });
        lost.push({ key, entry });
        return settlePending({ key, entry }).then(() => {
          state.lose(key, why);
          onLost(why);
          change(key, entry);
        });
      }
      case 'take':
        if (!entry && known?.value !== undefined) gone.push(key);
        state.take({ key, entry });
        change(key, entry);
        return undefined;
      default:
        return judgement satisfies never;
    }
  };
  await eachInTurns(listing.entries, COMPARED_PER_TURN, (entry) => {
    const { key } = entry;
    return key === FORMAT_KEY || isSettled(key, entry) ? undefined : settle(key, entry);
  });
  await eachUnlisted(state, listing, (key) => (isSettled(key, undefined) ? undefined : settle(key, undefined)));
  tellDeletedHost(state, host, gone, onLost);
  return { changes: [...deleted, ...put], write, lost };
}

/** Why a write of this host is given up. */
export function overtaken(key: string, entry: Entry | undefined): string {
  const owner = ownerOf(entry?.value);
  const changed = owner === undefined ? 'was changed by another host' : `was taken over by host "${owner}"`;
  const what = entry ? changed : 'was deleted by another host';
  return `${nameOfKey(key)} ${what} while the store was away: what this host made of it is given up`;
}
