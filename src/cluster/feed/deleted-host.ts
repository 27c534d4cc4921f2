/**
 * Another host may delete this one while it is down, or cut off from the store. It registers itself again when it is back, without
 * the endpoints that went with it: that is told, as what was given up.
 */
import { hostKind } from '../../model/kinds/host.ts';
import { someOf } from '../../model/name.ts';
import { keyOf, resourceAt } from '../keys.ts';
import type { SharedState } from './shared-state.ts';

/** Not the key of the record: that is this host's again when it has registered itself. */
const DELETED_HOST = 'deleted host';

/** Tells it if it is so. @param gone keys of records of this host that others have deleted */
export function tellDeletedHost(
  state: SharedState,
  host: string,
  gone: readonly string[],
  onLost: (why: string) => void,
): void {
  if (!gone.includes(keyOf(hostKind, host))) return;
  const endpoints = gone.flatMap((key) => {
    const { kind, name } = resourceAt(key) ?? {};
    return kind?.kind === 'Endpoint' ? [name!] : [];
  });
  const these = endpoints.length === 0 ? '' : `, and its endpoints with it (${someOf(endpoints)})`;
  const why = `host "${host}" was deleted on another host while it was down or cut off${these}: it registers itself again without them`;
  state.lose(DELETED_HOST, why);
  onLost(why);
}
