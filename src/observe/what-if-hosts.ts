/**
 * What-if on all hosts: each judges its own end of conversations, and says so to whoever asks. What several hosts say together is
 * bounded, too.
 */
import { MOST_ANSWER_BYTES, type Answers } from '../cluster/membership/questions.ts';
import { hostDiffReport, type DiffReport, type HostDiffReport } from '../model/policy-report.ts';

/** How many classes of connections, and of conversations, all hosts tell together. */
const MOST_TOLD = 4096;
/** How many a host tells another one, at most. */
const MOST_ANSWERED = 256;

/** So much of it as fits into an answer. */
export function boundedAnswer(all: HostDiffReport): HostDiffReport {
  for (let most = MOST_ANSWERED; ; most = Math.floor(most / 2)) {
    const some = first(all, most);
    if (most === 0 || Buffer.byteLength(JSON.stringify(some)) <= MOST_ANSWER_BYTES) return some;
  }
}

/** What this host says and what others have answered, as one. */
export function withAnswers(
  host: string,
  own: HostDiffReport,
  { given, missing }: Answers,
): HostDiffReport & Pick<DiffReport, 'hosts'> {
  const hosts: DiffReport['hosts'] = [{ name: host, answered: true }];
  const reports: HostDiffReport[] = [saidBy(host, own)];
  for (const [name, answer] of given) {
    const read = hostDiffReport.safeParse(answer);
    if (read.success) reports.push(saidBy(name, read.data));
    hosts.push({ name, answered: read.success, ...(!read.success && { why: whyOf(answer) }) });
  }
  for (const [name, why] of missing) hosts.push({ name, answered: false, why });
  const sum = (count: (report: HostDiffReport) => number): number =>
    reports.reduce((all, report) => all + count(report), 0);
  const together = {
    connections: {
      live: sum(({ connections }) => connections.live),
      ended: reports.flatMap(({ connections }) => connections.ended),
      more: sum(({ connections }) => connections.more),
    },
    flowClasses: {
      count: sum(({ flowClasses }) => flowClasses.count),
      givenUp: sum(({ flowClasses }) => flowClasses.givenUp),
      passedOver: sum(({ flowClasses }) => flowClasses.passedOver),
      changed: reports.flatMap(({ flowClasses }) => flowClasses.changed).sort(byLastSeen),
      more: sum(({ flowClasses }) => flowClasses.more),
    },
    services: {
      ended: reports.flatMap(({ services }) => services.ended),
      changed: reports.flatMap(({ services }) => services.changed).sort(byLastSeen),
      more: sum(({ services }) => services.more),
    },
  };
  return { ...first(together, MOST_TOLD), hosts: hosts.sort((a, b) => (a.name < b.name ? -1 : 1)) };
}

/** With so many lines of each; the rest is counted. */
function first({ connections, flowClasses, services }: HostDiffReport, most: number): HostDiffReport {
  const { ended } = connections;
  const { changed } = flowClasses;
  return {
    connections: { ...connections, ended: ended.slice(0, most), more: connections.more + countOf(ended.slice(most)) },
    flowClasses: {
      ...flowClasses,
      changed: changed.slice(0, most),
      more: flowClasses.more + Math.max(0, changed.length - most),
    },
    services: {
      ended: services.ended.slice(0, most),
      changed: services.changed.slice(0, most),
      more: services.more + countOf(services.ended.slice(most)) + Math.max(0, services.changed.length - most),
    },
  };
}

function countOf(ended: readonly { readonly connections: number }[]): number {
  return ended.reduce((sum, { connections }) => sum + connections, 0);
}

/** The latest first. */
function byLastSeen(a: { readonly lastSeen: string }, b: { readonly lastSeen: string }): number {
  return Date.parse(b.lastSeen) - Date.parse(a.lastSeen);
}

function saidBy(host: string, { connections, flowClasses, services }: HostDiffReport): HostDiffReport {
  const said = <T>(all: readonly T[]): (T & { readonly host: string })[] => all.map((one) => ({ ...one, host }));
  return {
    connections: { ...connections, ended: said(connections.ended) },
    flowClasses: { ...flowClasses, changed: said(flowClasses.changed) },
    services: { ...services, ended: said(services.ended), changed: said(services.changed) },
  };
}

/** Of a host that could not answer. */
function whyOf(answer: unknown): string {
  const why = (answer as { readonly why?: unknown } | null)?.why;
  return typeof why === 'string' ? why : 'its answer is not understood';
}
