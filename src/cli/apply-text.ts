/** Formats a result as kubectl does: `network/blue created`. */
import type { ApplyReport } from '../model/report.ts';

export function applyText({ kind, name, action, dryRun, waiting }: ApplyReport): string {
  const why = waiting === undefined ? '' : `, waiting: ${waiting}`;
  return `${kind.toLowerCase()}/${name} ${action}${dryRun ? ' (dry run)' : ''}${why}\n`;
}
