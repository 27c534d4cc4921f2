/**
 * What becomes of one record, when this host has it in force in one way and the shared store has it in another.
 *
 *   same    the store has what is in force
 *   take    what the store has is put into force
 *   hold    what is in force stays, until somebody decides: the store is not what it was, and lost or reverted the record.
 *           Never what has a lease, as that says what is so at the moment
 *   write   the record is this host's: the store gets it again, or loses it again
 *   lose    this host wrote it while the store was away, and somebody else meanwhile: what the store has is put into force
 *
 * So a record has one owner at every moment. What the store has is in force on all other hosts already, and therefore wins
 * against what only this host knows of.
 */
import type { Entry } from '../../store/store.ts';
import { digestOf, isOwnedBy, type KnownRecord } from './known-records.ts';
import type { PendingWrite } from './pending-writes.ts';

export type Judgement = 'same' | 'take' | 'hold' | 'write' | 'lose';

export interface Case {
  /** The name of this host. */
  readonly host: string;
  readonly known: KnownRecord | undefined;
  readonly pending: PendingWrite | undefined;
  /** What the store has. */
  readonly entry: Entry | undefined;
  /**
   * Set if the store was restored, or is another one: what it has up to this revision came with that, and what is later was
   * written since.
   */
  readonly restoredAt: number | undefined;
  /** The store is that of another cluster, which this host belongs to from now on: it brings its own records along. */
  readonly isJoining?: boolean;
}

export function judge({ host, known, pending, entry, restoredAt, isJoining = false }: Case): Judgement {
  const there = entry?.revision ?? 0;
  // It was brought along from another cluster, and the store has not got it yet (`SharedState.bring`).
  if (!pending && !entry && known?.value !== undefined && known.stored === 0) return 'write';
  if (!pending && known?.stored === there && restoredAt === undefined && !isJoining) return 'same';
  const isSame =
    known && entry
      ? (known.isLeased ?? false) === (entry.lease !== undefined) &&
        known.digest === digestOf(JSON.stringify(entry.value))
      : !known && !entry;
  if (isSame) return 'same';
  const isFromRestore = restoredAt !== undefined && there <= restoredAt;
  if (pending) {
    // Revisions of another cluster say nothing about this one.
    const isBase = isJoining ? !entry : there === pending.base;
    if (isBase || isFromRestore) return 'write';
    return isOwnedBy(host, entry) ? 'write' : 'lose';
  }
  // Its writer writes it again if it lives. If not, no lease would ever end what is held.
  if (known?.isLeased || entry?.lease !== undefined) return 'take';
  const isOwn = known ? known.value !== undefined : isOwnedBy(host, entry);
  if (isFromRestore) return isOwn ? 'write' : 'hold';
  return isOwn && isJoining && !entry ? 'write' : 'take';
}
