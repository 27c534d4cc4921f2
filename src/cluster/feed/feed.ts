/**
 * The feed: what the store says, and how it reaches the cluster.
 *
 *   start      reads everything there is
 *   next       what is to be put into force now: everything at first, then one change after the other
 *   transact   writes; `caughtUp` waits until `next` has what was written
 *
 * `Enforcement` puts into force whatever `next` returns, and looks nowhere else. With one host, that is what the embedded store
 * says (`local-feed.ts`). With a store that several hosts share, what is in force does not depend on that store
 * (`shared-feed.ts`).
 */
import type { WeftError } from '../../error.ts';
import type { KindDefinition } from '../../model/kinds/kind.ts';
import type { AcceptReport, SharedStoreReport } from '../../model/report.ts';
import type { Change, Entry, Store, Transaction } from '../../store/store.ts';
import type { Keys } from '../register.ts';

export interface News {
  /** Everything up to there is in force afterwards, although there may be no change. It goes back if the store was restored. */
  readonly revision: number;
  readonly changes: readonly Change[];
  /** The revision that made the changes, where the changes do not say it themselves, as deletions do not. */
  readonly madeAt?: number;
  /** Something of the state was made then besides signs of life, although all of it may be in force here already, as what this host wrote. */
  readonly isOfState?: boolean;
  /** Present if the store was read anew: `latest` is when the last change of what it has was made, if its history is not the one before. */
  readonly listed?: { readonly latest?: number };
  /** Present if everything was read: all keys that there are. Whatever else was in force is among the changes. */
  readonly keys?: Keys;
  /** What is in force at the same revision may be among the changes. Otherwise it is another one, of another history. */
  readonly repeats?: boolean;
  /**
   * What may have been in force here before, under keys whose changes this host may not accept, the last one first: the first
   * of them that it accepts is in force then.
   */
  readonly before?: ReadonlyMap<string, readonly Entry[]>;
}

export interface Feed {
  /** For those who write records of their own: like the store, with what this feed does for writers. */
  readonly store: Store;

  /** Reads everything, if possible. @param onNews called when `next` has something, from then on */
  start(onNews: () => void): Promise<void>;
  /** Why nothing is known yet, and what weft waits for; undefined if that is not so. */
  waitsFor(): WeftError | undefined;
  /** What comes next; undefined if there is nothing at the moment. Calls do not overlap. */
  next(): Promise<News | undefined>;
  /** Resolves when `next` has returned what was written at that revision, or will. */
  caughtUp(revision: number): Promise<void>;

  /** Waits for all that was written up to that revision, by whomever. @returns false if `next` will not have it soon */
  knows(revision: number): Promise<boolean>;
  /**
   * Waits, but not for long, until what a shared store says is judged, if it answers. Not within `serial`, in which that is judged.
   */
  readable(): Promise<void>;
  /** Why a shared store must not be used although it may answer; undefined if it may, and if there is none. */
  mustWait(): string | undefined;

  /** Resolves when all that `next` has returned by now survives the end of this daemon, wherever it starts from then. */
  kept(): Promise<void>;

  /**
   * Called with a record of `next` when this host has accepted it, or does not: what it accepted before stays in force then, and
   * that must be so after the next start, too.
   */
  judged?(entry: Entry, isAccepted: boolean): void;

  /** Asks a shared store, which may have fallen silent just now. @throws WeftError that says why it cannot be used */
  ask(): Promise<void>;

  /** A record as it is stored. */
  get(key: string): Promise<Entry | undefined>;
  transact(transaction: Transaction): Promise<number>;

  /** Why a resource is not in force as the store has it; undefined if it is. */
  failure(kind: KindDefinition, name: string): WeftError | undefined;
  /** What `weft status` shows of a shared store; null if there is none. */
  report(): SharedStoreReport | null;
  /** Puts into force what a shared store says although it is not what it was. @throws WeftError if that is not possible */
  accept(): Promise<AcceptReport>;
  /** Ends it. No call may be running any more. */
  close(): Promise<void>;
}
