/** `network/blue created`, in kubectl's words. */
import type { ApplyReport } from '../model/report.ts';

export function applyText({ kind, name, action, dryRun }: ApplyReport): string {
  return `${kind.toLowerCase()}/${name} ${action}${dryRun ? ' (dry run)' : ''}\n`;
}
