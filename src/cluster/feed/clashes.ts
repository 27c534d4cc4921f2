/**
 * Endpoints of this host that the store does not have, and that cannot be any more: another host has given one of their
 * addresses, or their MAC, to an endpoint of its own meanwhile. This host made them while the store was away, or the store has
 * lost them and this host was not there.
 */
import type { Entry } from '../../store/store.ts';
import { inTurns } from '../../turns.ts';
import { addressesOf, networkOf, ownerOf } from './known-records.ts';
import { nameOfKey } from '../keys.ts';

const ENDPOINTS = 'endpoints/';
const COMPARED_PER_TURN = 512;

/** What the store does not have. */
export interface Unstored {
  readonly key: string;
  readonly value?: object | undefined;
  /** Of a pending write: the revision of what it takes the place of. */
  readonly base?: number;
}

/** What of an endpoint another host has given to one of its own. */
export interface GivenAway {
  /** In words, such as `ip 10.0.0.1 in network "blue"`. */
  readonly taken: string;
  /** In words, such as `endpoint "x" of host "x"`. */
  readonly owner: string;
  /** In words. */
  readonly when: string;
}

export function clashText(key: string, { taken, owner, when }: GivenAway): string {
  return `${nameOfKey(key)} is given up: ${taken} was given to ${owner} ${when}`;
}

/**
 * @param entries everything that the store has
 * @param restoredAt as in `Case`: what came with the restore may be long gone, and takes nothing from what the store had. Of what
 *   the store never had, nobody knows which one was first
 * @returns what each of those has that is given up for it, by key
 */
export async function clashesOf(
  host: string,
  unstored: readonly Unstored[],
  entries: readonly Entry[],
  restoredAt: number | undefined,
): Promise<ReadonlyMap<string, GivenAway>> {
  const wanted = new Map<string, Unstored>();
  for (const one of unstored) {
    const { key, value } = one;
    if (!key.startsWith(ENDPOINTS) || !value) continue;
    for (const what of takenBy(value)) wanted.set(what, one);
  }
  const clashes = new Map<string, GivenAway>();
  if (wanted.size === 0) return clashes;
  for await (const { key, value, revision } of inTurns(entries, COMPARED_PER_TURN)) {
    if (!key.startsWith(ENDPOINTS) || ownerOf(value) === host) continue;
    const isFromRestore = restoredAt !== undefined && revision <= restoredAt;
    for (const what of takenBy(value)) {
      const { key: own, base } = wanted.get(what) ?? {};
      if (own === undefined || own === key || (isFromRestore && base !== 0)) continue;
      const owner = `${nameOfKey(key)} of host "${ownerOf(value) ?? '?'}"`;
      const when =
        restoredAt !== undefined && base === undefined ? 'since the store was restored' : 'while the store was away';
      clashes.set(own, { taken: what, owner, when });
    }
  }
  return clashes;
}

/** What no other endpoint may have, in words. Whatever else the record says: it may be one that no host accepts. */
function takenBy(value: unknown): string[] {
  const network = networkOf(value);
  if (typeof network !== 'string') return [];
  const { mac } = Object(value) as { readonly mac?: unknown };
  const within = `in network "${network}"`;
  const ips = addressesOf(value).map((ip) => `ip ${ip} ${within}`);
  return typeof mac === 'string' ? [...ips, `mac ${mac} ${within}`] : ips;
}
