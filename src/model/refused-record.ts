/** What is said of a record of the store that this host does not accept. */
import { idOf } from './name.ts';
import type { RefusedRecordReport } from './report.ts';

/** What to do about one. */
export const REFUSED_HINT = 'apply it again, or delete it';
/** About a network whose VNI or subnet another one has: as it is, it can never be accepted beside that. */
export const CLASH_HINT =
  'apply it again with another VNI (left out, weft chooses one) or subnet, or delete one of the two';

/** What cannot be read of a policy is closed, and may close all of its namespace. */
export function isPolicyKind(kind: string): boolean {
  return kind === 'NetworkPolicy' || kind === 'ClusterNetworkPolicy';
}

export function refusedRecordText({ kind, name, namespace, why }: RefusedRecordReport): string {
  const state = isPolicyKind(kind) ? 'is closed: it allows nothing of what cannot be read' : 'waits';
  return `${kind.toLowerCase()} "${idOf({ name, namespace })}" ${state}: ${why}`;
}

/** What is said of those that are not named: nothing if all of them are. @param count how many there are in all */
export function moreRefusedText(count: number, named: number): string[] {
  return count > named ? [`${count - named} more records of the store are not accepted`] : [];
}
