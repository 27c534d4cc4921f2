/**
 * Endpoints that this host made while the store was away, and that cannot be any more: another host has given one of their
 * addresses, or their MAC, to an endpoint of its own meanwhile.
 */
import type { Entry } from '../../store/store.ts';
import { inTurns } from '../../turns.ts';
import type { EndpointRecord } from '../endpoint.ts';
import { ownerOf } from './known-records.ts';
import type { PendingWrite } from './pending-writes.ts';
import { nameOfKey } from '../keys.ts';

const ENDPOINTS = 'endpoints/';
const COMPARED_PER_TURN = 512;

/** @param entries everything that the store has @returns why each of them is given up, by key */
export async function pendingClashes(
  host: string,
  pending: readonly PendingWrite[],
  entries: readonly Entry[],
): Promise<ReadonlyMap<string, string>> {
  const wanted = new Map<string, string>();
  for (const { key, value } of pending) {
    if (!key.startsWith(ENDPOINTS) || !value) continue;
    for (const what of takenBy(value)) wanted.set(what, key);
  }
  const clashes = new Map<string, string>();
  if (wanted.size === 0) return clashes;
  for await (const { key, value } of inTurns(entries, COMPARED_PER_TURN)) {
    if (!key.startsWith(ENDPOINTS) || ownerOf(value) === host) continue;
    for (const what of takenBy(value)) {
      const own = wanted.get(what);
      if (own === undefined || own === key) continue;
      const owner = `${nameOfKey(key)} of host "${ownerOf(value) ?? '?'}"`;
      clashes.set(own, `${nameOfKey(own)} is given up: ${what} was given to ${owner} while the store was away`);
    }
  }
  return clashes;
}

/** What no other endpoint may have, in words. */
function takenBy(value: unknown): string[] {
  const { resource, addresses = [], mac } = Object(value) as Partial<EndpointRecord>;
  const network = resource?.spec.network;
  if (network === undefined) return [];
  const within = `in network "${network}"`;
  return [...addresses.map((address) => `ip ${address} ${within}`), `mac ${mac} ${within}`];
}
