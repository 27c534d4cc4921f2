/**
 * The identity of this host among the hosts of the overlay: random, created at the first start,
 * and kept with its state. A name cannot identify a host, since several may have the same one
 * (images and clones do). Everything that must belong to one host only is derived from it: the MAC
 * with which it asks for neighbors, and the MACs that it chooses for endpoints.
 */
import type { Store } from '../../store/store.ts';

export const IDENTITY_BYTES = 16;

const KEY = 'identity';

/** @param random returns IDENTITY_BYTES bytes that no other host has */
export async function hostIdentity(store: Store, random: () => Uint8Array): Promise<Uint8Array> {
  const known = await store.get(KEY);
  if (known) return Buffer.from(known.value as string, 'hex');
  const identity = random();
  await store.transact({
    expect: [{ key: KEY, revision: 0 }],
    put: [{ key: KEY, value: Buffer.from(identity).toString('hex') }],
  });
  return identity;
}
