/**
 * Who this host is among the hosts of the overlay: random, made at the first
 * start, and kept with its state. A name cannot tell hosts apart, since several
 * may have the same (images and clones do). What must be the host's alone is
 * derived from this: the MAC by which it asks for neighbors, and the MACs that
 * it makes up for endpoints.
 */
import type { Store } from '../store/store.ts';

export const IDENTITY_BYTES = 16;

const KEY = 'identity';

/** @param random makes IDENTITY_BYTES bytes that no other host has */
export async function hostIdentity(store: Store, random: () => Uint8Array): Promise<Uint8Array> {
  const known = await store.get(KEY);
  if (known) return Buffer.from(known.value as string, 'hex');
  const identity = random();
  await store.transact({ put: [{ key: KEY, value: Buffer.from(identity).toString('hex') }] });
  return identity;
}
