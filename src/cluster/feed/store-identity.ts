/**
 * Whether the shared store is the one that this host has followed, and went on from where it was.
 *
 * Its record `format` says which cluster it belongs to (`id`, random, chosen by the first host), in which version of the
 * layout it is written, and since when its present history lasts (`epoch`). Whoever notices that the store was restored
 * writes the new epoch: so every host knows what came with the restore (records up to its revision, which may be old), and
 * what was written since (everything later, which counts).
 */
import { WeftError } from '../../error.ts';
import type { Entry, Listing } from '../../store/store.ts';

export const FORMAT_KEY = 'format';
export const FORMAT_VERSION = 1;

/** From `revision` on, the history with that name is one that the hosts have followed without a break. */
export interface Epoch {
  /** Random: a store may be restored to one revision several times. */
  readonly id: string;
  readonly history: string;
  readonly revision: number;
}

export interface Format {
  readonly id: string;
  readonly version: number;
  readonly epoch: Epoch;
}

/** What this host knows of the store that it follows; kept with the copy of its state. */
export interface StoreMark {
  readonly id: string;
  readonly epoch: Epoch;
  readonly history: string;
  /** The last revision that is in force. */
  readonly revision: number;
  /** Set while deletions and reversals are held. */
  readonly strange?: Strangeness;
}

export interface Strangeness {
  /** What is not as it was, each a sentence about the store. */
  readonly signs: readonly string[];
  /** Milliseconds since the epoch. */
  readonly sinceMs: number;
}

const DELETE_IT = 'delete it, and weft writes it again';

/** @throws WeftError('state') that says why this host cannot read it */
export function readFormat({ value }: Pick<Entry, 'value'>): Format {
  const { id, version, epoch } = Object(value) as Partial<Format>;
  if (typeof version === 'number' && version > FORMAT_VERSION) {
    throw new WeftError(
      'state',
      `the store is of a newer version of weft (format ${version}, this one reads ${FORMAT_VERSION}): update weft on this host`,
    );
  }
  const { id: epochId, history, revision } = Object(epoch) as Partial<Epoch>;
  if (
    typeof id !== 'string' ||
    version !== FORMAT_VERSION ||
    typeof epochId !== 'string' ||
    typeof history !== 'string' ||
    typeof revision !== 'number'
  ) {
    throw new WeftError('state', `the store’s record \`format\` cannot be read: ${DELETE_IT}`);
  }
  if (!Number.isSafeInteger(revision) || revision < 0) {
    throw new WeftError(
      'state',
      `the store’s record \`format\` has ${revision} in epoch.revision, not a whole number from 0 to ${Number.MAX_SAFE_INTEGER}: ${DELETE_IT}`,
    );
  }
  return { id, version, epoch: { id: epochId, history, revision } };
}

/** @param places what is to be said of where it is */
export function otherClusterError(found: string, own: string, places: string): WeftError {
  return new WeftError(
    'state',
    `the store is that of another cluster (${found}; this host belongs to ${own}): correct its address or prefix${places}, or follow it from now on with \`weft doctor --accept-store\``,
  );
}

/**
 * True for a record that somebody has put back into a store that was emptied: an epoch begins before it is written. An etcd that
 * begins anew with the same members has the same history by name.
 */
export function isPutBack({ epoch }: Format, { revision: writtenAt }: Entry, history: string): boolean {
  return epoch.history === history && epoch.revision > writtenAt;
}

/**
 * What shows that the store is not what it was; nothing if this host has followed none before.
 * @param wasPutBack as `isPutBack` says of `format`
 */
export function signsOf(
  mark: StoreMark | undefined,
  format: Format | undefined,
  listing: Listing,
  wasPutBack = false,
): string[] {
  if (!mark) return [];
  const signs: string[] = [];
  if (wasPutBack) signs.push('its record `format` was put back from a time when its revisions were higher');
  if (!format) signs.push('its record `format` is missing');
  if (listing.history !== mark.history)
    signs.push(`it is another store than before (its cluster ID was ${mark.history}, and is ${listing.history})`);
  else if (listing.revision < mark.revision) {
    signs.push(`its revision went back from ${mark.revision} to ${listing.revision}`);
  } else if (format && format.epoch.id !== mark.epoch.id) {
    signs.push(`it was restored (another host noticed that at revision ${format.epoch.revision})`);
  }
  return signs;
}

/** The epoch that somebody else has begun since `mark`, if it fits what the store says now. */
export function begunEpoch(mark: StoreMark, format: Format | undefined, listing: Listing): Epoch | undefined {
  if (!format || format.epoch.id === mark.epoch.id) return undefined;
  const { history, revision } = format.epoch;
  return history === listing.history && revision <= listing.revision ? format.epoch : undefined;
}
