/** Formats a result as kubectl does, but with the namespace: `network/blue created`, `endpoint/shop/web created`. */
import { idOf } from '../model/name.ts';
import type { PolicyEventReport } from '../model/talk-report.ts';
import type { ApplyReport } from '../model/report.ts';
import { judgementText, talkText } from './talk-text.ts';

export function applyText(report: ApplyReport): string {
  const {
    kind,
    name,
    namespace,
    action,
    dryRun,
    waiting,
    pending,
    with: goes = [],
    swept = [],
    sweptMore = 0,
  } = report;
  const why = waiting === undefined ? '' : `, waiting: ${waiting}`;
  const unknown = pending === undefined ? '' : `, pending: ${pending}`;
  return `${kind.toLowerCase()}/${idOf({ name, namespace })} ${action}${dryRun ? ' (dry run)' : ''}${why}${unknown}\n${withText(goes)}${swept.map(sweptText).join('')}${moreText(sweptMore)}`;
}

/** What was deleted with a host. */
function withText(goes: readonly string[]): string {
  return goes.length === 0 ? '' : `  with it: ${goes.join(', ')}\n`;
}

/** Connections that have been ended, or would be if staged policies were in force. */
function sweptText(event: PolicyEventReport): string {
  const what = event.event === 'cut' ? 'cut' : 'staged, would cut';
  return `  ${what} ${countText(event.connections ?? 1)}: ${talkText(event)}: ${judgementText(event)}\n`;
}

function moreText(count: number): string {
  return count === 0 ? '' : `  cut ${countText(count)} more: \`weft policy log\` may name them\n`;
}

function countText(count: number): string {
  return `${count} connection${count === 1 ? '' : 's'}`;
}
