/**
 * Where this host has followed its store. One that has nothing of weft is an emptied one if it is at that place. At another one,
 * the address or the prefix of the configuration is wrong, nearly always: this host would begin a second cluster there, beside the
 * one that it belongs to.
 */
import { WeftError } from '../../error.ts';
import { placeName, type EtcdConfig } from '../../model/store-config.ts';
import type { Store } from '../../store/store.ts';

/** The key of the host's own store that has it. */
const PLACE_KEY = 'followed';

export type StorePlace = Pick<EtcdConfig, 'endpoints' | 'prefix'>;

/** Undefined if this host has followed none, or an earlier version of weft did not note it. */
export async function placeBefore(own: Store): Promise<StorePlace | undefined> {
  return (await own.get(PLACE_KEY))?.value as StorePlace | undefined;
}

export async function notePlace(own: Store, { endpoints, prefix }: StorePlace): Promise<void> {
  await own.transact({ put: [{ key: PLACE_KEY, value: { endpoints, prefix } }] });
}

/**
 * What is wrong with a place that has nothing of weft; undefined if nothing is. That etcd has the same cluster ID as before says
 * nothing: all those of one member have it that were started without a peer address and a cluster token of their own.
 */
export function emptyPlaceError(place: StorePlace, before: StorePlace): WeftError | undefined {
  const isSamePrefix = place.prefix === before.prefix;
  const isSameAddress = place.endpoints.some((endpoint) => before.endpoints.includes(endpoint));
  if (isSamePrefix && isSameAddress) return undefined;
  const wrong = isSamePrefix ? 'address' : 'prefix';
  return new WeftError(
    'state',
    `the store has nothing of weft there (${placeName(place)}), and this host has followed it elsewhere (${placeName(before)}): correct its ${wrong}; or, if the cluster is to go on there with what is in force here, \`weft doctor --accept-store\`, which takes nothing away`,
  );
}

/** What an error about a store of another cluster says of its place, if that is another one than before. */
export function placesText(place: StorePlace, before: StorePlace | undefined): string {
  if (!before || placeName(place) === placeName(before)) return '';
  return ` (it is ${placeName(place)} now, and was ${placeName(before)} before)`;
}
