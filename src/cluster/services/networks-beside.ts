import type { Subnet } from '../../model/address.ts';
import type { Put } from '../../store/store.ts';
import type { Network } from '../network.ts';
import type { Draft } from '../reconciler.ts';

/** The networks, as services see them, whose addresses must not be in one. */
export interface NetworksBeside {
  /** Those in force; the same array as long as none has changed. */
  readonly all: () => readonly Pick<Network, 'name' | 'pools'>[];
  /** What of the networks that there are overlaps these; undefined if nothing. @param texts of `subnets` */
  readonly clash: (draft: Draft, subnets: readonly Subnet[], texts: readonly string[]) => string | undefined;
  /** What is stored with a change, so that networks which are created at once are planned before or after it. */
  readonly alsoStored: (draft: Draft) => readonly (Put & { readonly revision: number })[];
}
