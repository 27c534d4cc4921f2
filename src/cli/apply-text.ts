/** Formats a result as kubectl does, but with the namespace: `network/blue created`, `endpoint/shop/web created`. */
import { idOf } from '../model/name.ts';
import type { ApplyReport } from '../model/report.ts';

export function applyText({ kind, name, namespace, action, dryRun, waiting, pending }: ApplyReport): string {
  const why = waiting === undefined ? '' : `, waiting: ${waiting}`;
  const unknown = pending === undefined ? '' : `, pending: ${pending}`;
  return `${kind.toLowerCase()}/${idOf({ name, namespace })} ${action}${dryRun ? ' (dry run)' : ''}${why}${unknown}\n`;
}
