/**
 * Follows records of the store that are no resources, such as claims and signs of life. What it has seen is in force for
 * the resources of the same revision, which are put into force after it.
 */
import type { Change } from '../store/store.ts';

/** All that there are. What this host writes while they are asked for may already be among them, or not any more. */
export type Keys = Pick<ReadonlySet<string>, 'has' | 'keys'>;

export interface Register {
  /** Of the keys that concern it. */
  readonly prefix: string;
  /** Called once, before anything is seen: reads what this host has kept. */
  load?(): Promise<void>;
  /** Takes what the watch reports under the prefix. At a start, and after a watch has lost its place, that is everything. */
  see(changes: readonly Change[], revision: number): void | Promise<void>;
  /** Called when everything that the store had at that revision has been seen. @param keys all that it had */
  listed?(keys: Keys, revision: number): void | Promise<void>;
}
