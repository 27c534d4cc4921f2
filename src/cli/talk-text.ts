/** Who talks to whom, and what policies say about it: one line, as flows, drops, connections that were cut and events have it. */
import type { PolicyEventReport, TalkReport } from '../model/talk-report.ts';

/** `tcp shop/web 10.0.0.2 > shop/db 10.0.0.3:5432` */
export function talkText({ protocol, from, to, source, destination }: TalkReport): string {
  return `${protocol} ${endText(from, source)} > ${endText(to, destination)}`.trim();
}

function endText(name: string | null, end: string): string {
  return [name ?? '', end].filter((text) => text !== '').join(' ') || '?';
}

export function judgementText({ reason, judgement }: PolicyEventReport): string {
  return `${reason.replace('policy_', '')}, ${judgement.text}`;
}
