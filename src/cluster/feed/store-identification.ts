/**
 * Makes sure that a listing is of the store to follow, and says what is strange about it (`store-identity.ts`).
 *
 * The first host begins a store: it writes `format`, and what every cluster has. It says so, as somebody may have meant another
 * store. The first host that sees that a store was restored, or that its `format` was put back by hand, writes since when its
 * history lasts, so that all hosts judge its records alike. After either, the store has to be listed again.
 */
import { WeftError } from '../../error.ts';
import type { Entry, Listing, Store } from '../../store/store.ts';
import { nextTurn } from '../../turns.ts';
import { digestOf } from './known-records.ts';
import { migration } from '../migration.ts';
import type { SharedState } from './shared-state.ts';
import { emptyPlaceError, placesText, type StorePlace } from './store-place.ts';
import {
  begunEpoch,
  FORMAT_KEY,
  FORMAT_VERSION,
  isPutBack,
  otherClusterError,
  readFormat,
  signsOf,
  type Epoch,
  type Format,
} from './store-identity.ts';

const COMPARED_PER_TURN = 256;

export interface Identified {
  readonly epoch: Epoch;
  readonly signs: readonly string[];
}

export class StoreIdentification {
  readonly #store: Store;
  readonly #place: StorePlace;
  readonly #newId: () => string;
  readonly #onBegun: (id: string) => void;
  /** Signs that this host has noticed, and told the others. */
  #noticed: readonly string[] = [];
  /** The last listing was refused because it is of the store of another cluster. */
  isOther = false;

  /** @param place where the store is @param onBegun called with the id of a cluster when this host has begun its store, which had nothing */
  constructor(store: Store, place: StorePlace, newId: () => string, onBegun: (id: string) => void) {
    this.#store = store;
    this.#place = place;
    this.#newId = newId;
    this.#onBegun = onBegun;
  }

  /**
   * @param least the store was at this revision when the listing was asked for, or later
   * @param isAccepting if the store is that of another cluster, this host belongs to that one from now on; if it has nothing and
   *   is elsewhere, the cluster goes on there
   * @returns undefined if it has to be listed again
   * @throws WeftError `state` if this host must not follow it; another one if it cannot be written
   */
  async identify(
    state: SharedState,
    listing: Listing,
    least: number,
    isAccepting: boolean,
  ): Promise<Identified | undefined> {
    this.isOther = false;
    const entry = listing.entries.find(({ key }) => key === FORMAT_KEY);
    const format = entry && readFormat(entry);
    if (format && state.id !== undefined && format.id !== state.id) {
      this.isOther = !isAccepting;
      if (this.isOther) throw otherClusterError(format.id, state.id, placesText(this.#place, state.place));
      await state.join(format.id);
    }
    const { mark } = state;
    if (!format && state.place && !isAccepting) {
      const error = emptyPlaceError(this.#place, state.place);
      if (error) throw error;
    }
    const wasPutBack = format !== undefined && isPutBack(format, entry!, listing.history);
    const signs = signsOf(mark && { ...mark, revision: Math.max(mark.revision, least) }, format, listing, wasPutBack);
    const older = mark && signs.length === 0 ? await olderThanKnown(state, listing) : undefined;
    if (older !== undefined) signs.push(`its record "${older}" is older than this host knows it`);
    const epoch = mark && signs.length > 0 ? begunEpoch(mark, format, listing) : format?.epoch;
    if (!format || !epoch || wasPutBack) {
      await this.#begin(format?.id ?? state.id ?? this.#newId(), state, listing, entry);
      this.#noticed = signs;
      return undefined;
    }
    await state.join(format.id);
    const noticed = signs.length > 0 && this.#noticed.length > 0 ? this.#noticed : signs;
    this.#noticed = [];
    return { epoch, signs: noticed };
  }

  async #begin(
    id: string,
    state: SharedState,
    { history, revision, entries }: Listing,
    before: Entry | undefined,
  ): Promise<void> {
    const value: Format = { id, version: FORMAT_VERSION, epoch: { id: this.#newId(), history, revision } };
    // A store that has lost what it had does not get anything besides.
    const initial = state.mark || before ? undefined : migration(entries);
    try {
      await this.#store.transact({
        expect: [{ key: FORMAT_KEY, revision: before?.revision ?? 0 }, ...(initial?.expect ?? [])],
        put: [{ key: FORMAT_KEY, value }, ...(initial?.put ?? [])],
        delete: initial?.delete ?? [],
      });
    } catch (error) {
      // Another host was faster.
      if (!(error instanceof WeftError) || error.code !== 'conflict') throw error;
      return;
    }
    if (!state.mark && !before) this.#onBegun(id);
  }
}

/** A record that is older than the one that this host knows: then the store was restored, and nobody has noticed. */
async function olderThanKnown(state: SharedState, { entries }: Listing): Promise<string | undefined> {
  for (const [at, { key, value, revision }] of entries.entries()) {
    if (at % COMPARED_PER_TURN === 0) await nextTurn();
    const known = state.known.get(key);
    if (!known || revision >= known.stored || state.pending.has(key)) continue;
    if (known.digest !== digestOf(JSON.stringify(value))) return key;
  }
  return undefined;
}
