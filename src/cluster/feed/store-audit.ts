/**
 * The audit of a shared store: all of it is listed every few minutes, and compared with what is known from its first listing
 * and the changes that it reported since. A record that differs may be a change under way, so it is judged only when that
 * must have been reported. What differs then was lost on its way: `mismatches` counts such records, and has to stay 0.
 *
 * Revisions are compared and no values: in one history, a revision of a record has one value.
 */
import type { Listing } from '../../store/store.ts';
import { eachInTurns } from '../../turns.ts';
import type { SharedState } from './shared-state.ts';
import { FORMAT_KEY } from './store-identity.ts';
import { eachUnlisted } from './unlisted.ts';

const COMPARED_PER_TURN = 256;
/** How many ticks a change under way may take. */
const GRACE_TICKS = 5;

export class StoreAudit {
  runs = 0;
  mismatches = 0;
  #suspects: { readonly keys: ReadonlyMap<string, number>; readonly revision: number } | undefined;
  #ticks = 0;

  /** True if records that differed wait to be judged. */
  get isWaiting(): boolean {
    return this.#suspects !== undefined;
  }

  tick(): void {
    this.#ticks++;
  }

  /** Those that differed no longer matter: all is listed anew. */
  forget(): void {
    this.#suspects = undefined;
  }

  /** @param newer keys that were written after the listing */
  async compare(state: SharedState, listing: Listing, newer: ReadonlySet<string>): Promise<void> {
    this.runs++;
    const keys = await differences(state, listing, newer);
    this.#ticks = 0;
    if (keys.size > 0) this.#suspects = { keys, revision: listing.revision };
  }

  /** @param told the last revision that is in force @returns the keys whose changes were not reported */
  judge(state: SharedState, told: number): readonly string[] {
    if (!this.#suspects || (told <= this.#suspects.revision && this.#ticks < GRACE_TICKS)) return [];
    const { keys, revision: listedAt } = this.#suspects;
    this.#suspects = undefined;
    const lost = [...keys].filter(([key, revision]) => {
      const stored = state.storedAt(key);
      return stored !== revision && stored <= listedAt && !state.pending.has(key);
    });
    this.mismatches += lost.length;
    return lost.map(([key]) => key);
  }
}

/** The records that differ, with the revisions that the store has them at; 0 for none. */
async function differences(
  state: SharedState,
  listing: Listing,
  newer: ReadonlySet<string>,
): Promise<ReadonlyMap<string, number>> {
  const found = new Map<string, number>();
  const compare = (key: string, revision: number): void => {
    const isOther = key !== FORMAT_KEY && state.storedAt(key) !== revision;
    if (isOther && !newer.has(key) && !state.pending.has(key)) found.set(key, revision);
  };
  // The others were compared while they were read.
  await eachInTurns(listing.entries, COMPARED_PER_TURN, ({ key, revision }) => compare(key, revision));
  await eachUnlisted(state, listing, (key) => compare(key, 0));
  return found;
}
