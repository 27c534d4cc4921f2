/**
 * A state directory that goes on under another name. What it has of the cluster's state is that of the host with the name
 * before: its endpoints are not the new host's, and records that name it would be stored for a host that does not exist.
 */
import { WeftError } from '../../error.ts';
import { hostRegistration } from '../../model/records.ts';
import type { Entry } from '../../store/store.ts';
import { nameOfKey } from '../keys.ts';
import { ownerOf } from './known-records.ts';
import type { PendingWrite } from './pending-writes.ts';

const HOSTS = 'hosts/';

/** @throws WeftError if something waits to be stored that a host with another name has written */
export function refuseForeignWrites(host: string, pending: readonly PendingWrite[]): void {
  for (const { key, value } of pending) {
    const before = value && ownerOf(value);
    if (before === undefined || before === host) continue;
    throw new WeftError(
      'conflict',
      `this host was host "${before}" when it wrote ${nameOfKey(key)}, which the store does not have yet: start it with --host ${before} instead of ${host} until that is stored (\`weft status\`)`,
    );
  }
}

/**
 * @param id of this host @param copied what was in force when the last daemon ended @param why it is to be in force again
 * @throws WeftError if this host had another name then
 */
export function refuseForeignCopy(host: string, id: string, copied: ReadonlyMap<string, Entry>, why: string): void {
  for (const { key, value } of copied.values()) {
    if (!key.startsWith(HOSTS)) continue;
    const { data } = hostRegistration.safeParse(value);
    if (data?.id !== id || data.host === host) continue;
    throw new WeftError(
      'conflict',
      `this host was host "${data.host}" when it last reached the store (${why}): start it with --host ${data.host}, or with --host ${host} when the store can be used`,
    );
  }
}
