/**
 * Which store declares what is attached on this host.
 *
 * The interfaces of a host are in its state directory (`local-records.ts`), their endpoints in the store that it uses. In
 * another store they are not declared, so a start with that one would take them for deleted and remove them. It is refused
 * instead, as long as something is attached. Two shared stores are told apart later, by the cluster that they belong to
 * (`feed/store-identity.ts`): there, a host keeps what it has.
 */
import { WeftError } from '../error.ts';
import { endpointKind } from '../model/kinds/endpoint.ts';
import { placeName, type StoreConfig } from '../model/store-config.ts';
import type { Store } from '../store/store.ts';
import { CLUSTER_KEY } from './feed/shared-state.ts';
import { placeBefore } from './feed/store-place.ts';
import { keyOf } from './keys.ts';
import { LocalRecords } from './local-records.ts';

/** The key of the host's own store that has the name of the store used last. Absent: see `storeBefore`. */
const KEY = 'store';
const EMBEDDED = 'embedded';
/** How many endpoints the refusal names. */
const MOST_NAMED = 10;

/**
 * From here on, what is attached belongs to this store.
 * @throws WeftError if something is attached that belongs to another one; nothing is changed then
 */
export async function useStore(own: Store, store: StoreConfig): Promise<void> {
  const known = (await own.get(KEY))?.value as string | undefined;
  const name = placeName(store);
  const records = new LocalRecords(own, () => {});
  await records.load();
  const before = known ?? (await storeBefore(own, name, records.names()));
  // A start with a wrong prefix was the last one, maybe, and has not followed anything.
  const followed = before === EMBEDDED ? undefined : await placeBefore(own);
  refuseOtherStore(followed ? placeName(followed) : before, name, records.names());
  // A host that has never had another store needs no record.
  const isFirst = name === EMBEDDED && known === undefined && !(await own.get(CLUSTER_KEY));
  if (name !== known && !isFirst) await own.transact({ put: [{ key: KEY, value: name }] });
}

/**
 * @param before the name of the store that was used until now @param name of the one to be used
 * @param attached the endpoints that have interfaces here @throws WeftError if these are not declared in that one
 */
export function refuseOtherStore(before: string, name: string, attached: readonly string[]): void {
  if (attached.length === 0 || (before === EMBEDDED) === (name === EMBEDDED)) return;
  const more = attached.length > MOST_NAMED ? `, and ${attached.length - MOST_NAMED} more` : '';
  const these = `${attached.slice(0, MOST_NAMED).join(', ')}${more}`;
  throw new WeftError(
    'conflict',
    `the endpoints of this host belong to the store that it used before (${before}), and would lose their interfaces with another one (${name}): ${these}: start weft with that store again, which means with all options that it had (--store, or --config); to change the store, note them there (\`weft get ep -o yaml\`), remove them (\`weft detach\`, or all with \`weft down --purge\`), and \`weft apply\` them with the other one`,
  );
}

/**
 * Versions before did not say it. A host that has met no cluster used the embedded store. One that has goes on with a shared
 * one, and did not use the embedded store if that lacks something that is attached.
 */
async function storeBefore(own: Store, name: string, attached: readonly string[]): Promise<string> {
  const cluster = (await own.get(CLUSTER_KEY))?.value as string | undefined;
  if (cluster === undefined) return EMBEDDED;
  if (name !== EMBEDDED) return name;
  for (const endpoint of attached) {
    if (!(await own.get(keyOf(endpointKind, endpoint)))) return `etcd://…, cluster ${cluster}`;
  }
  return EMBEDDED;
}
