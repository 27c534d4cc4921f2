/**
 * Finds what is known here and is no longer in the shared store: what a listing of it leaves out.
 *
 * Nearly always that is nothing, and counting shows it: keys do not come twice in a listing, so it has all that is known if as
 * many of its keys are known as there are known ones. The keys of a large cluster are put together only if something is missing.
 */
import type { Listing } from '../../store/store.ts';
import { eachInTurns } from '../../turns.ts';
import { KeySet } from './key-set.ts';
import type { SharedState } from './shared-state.ts';

const KEYS_PER_TURN = 512;

/**
 * Does `work` for each key that this host knows of and `listing` does not have, for some of them twice. Call it when the entries
 * of the listing are judged.
 */
export async function eachUnlisted(
  state: SharedState,
  { entries, known }: Listing,
  work: (key: string) => void | Promise<void>,
): Promise<void> {
  const eachListed = async (each: (key: string) => void): Promise<void> => {
    await eachInTurns(known, KEYS_PER_TURN, each);
    await eachInTurns(entries, KEYS_PER_TURN, ({ key }) => each(key));
  };
  const { removals } = state;
  let listed = 0;
  await eachListed((key) => {
    if (state.known.has(key)) listed++;
  });
  // What was known when it was counted is so still, unless something was removed.
  const hasOthers = state.held.size > 0 || state.pending.all().length > 0;
  if (!hasOthers && state.removals === removals && state.known.size === listed) return;
  const there = new KeySet();
  await eachListed((key) => there.add(key));
  await eachInTurns(state.keys(), KEYS_PER_TURN, (key) => (there.has(key) ? undefined : work(key)));
}
