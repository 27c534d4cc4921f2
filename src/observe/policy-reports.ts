/** What `weft policy log` shows, and what is told of the connections that policies have ended. */
import type { Swept } from '../cluster/swept.ts';
import type { Endpoints } from '../cluster/endpoints.ts';
import type { Networks } from '../cluster/networks.ts';
import type { PolicyEvent, PolicyLog } from '../control/policy-log.ts';
import type { PolicyEventReport, TalkFilter } from '../model/talk-report.ts';
import { endsOfDenial } from './ends.ts';
import { reportJudgement } from './judgement.ts';
import { talkFilter, type Filtered } from './talk-filter.ts';

export interface PolicyReportsEnvironment {
  readonly log: PolicyLog;
  /** Resolves when all open connections have been judged by what is in force by now. */
  readonly judged: () => Promise<void>;
  readonly endpoints: Pick<Endpoints, 'find'>;
  readonly networks: Pick<Networks, 'find'>;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
}

/** How many classes of connections are named that a sweep has ended. */
const MOST_TOLD = 16;

export class PolicyReports {
  readonly #environment: PolicyReportsEnvironment;

  constructor(environment: PolicyReportsEnvironment) {
    this.#environment = environment;
  }

  /** What is kept, the oldest first. @throws WeftError about the filter */
  log(of: TalkFilter = {}): PolicyEventReport[] {
    const wants = this.#wanted(of);
    return this.#kept().filter(wants);
  }

  /** Calls `listener` with every event; with `since`, with what is kept before. Returns how to stop. */
  onEvent(listener: (event: PolicyEventReport) => void, of: TalkFilter = {}): () => void {
    const wants = this.#wanted(of);
    if (of.since !== undefined) for (const report of this.log(of)) listener(report);
    return this.#environment.log.onEvent((event) => {
      const report = this.#report(event);
      if (wants(report)) listener(report);
    });
  }

  /** Calls `listener` with what each sweep has ended. Returns how to stop. */
  onSwept(listener: (swept: Swept) => void): () => void {
    return this.#environment.log.onSwept(({ events, more }) => {
      const rest = events.slice(MOST_TOLD).filter(({ kind }) => kind === 'cut');
      listener({
        events: events.slice(0, MOST_TOLD).map((event) => this.#report(event)),
        more: rest.reduce((sum, { connections }) => sum + connections, more),
      });
    });
  }

  /**
   * Begins to note what is ended. What is returned waits until all connections have been judged by what is in force by then, and
   * tells it.
   */
  noteSwept(): () => Promise<Swept> {
    const events: PolicyEventReport[] = [];
    let more = 0;
    const stop = this.onSwept((swept) => {
      events.push(...swept.events);
      more += swept.more;
    });
    return async () => {
      await this.#environment.judged();
      stop();
      return { events, more };
    };
  }

  #kept(): PolicyEventReport[] {
    const { log } = this.#environment;
    return log.events().map((event) => this.#report(event));
  }

  #wanted(of: TalkFilter): (report: PolicyEventReport) => boolean {
    const { endpoints, networks, wallClock } = this.#environment;
    const wants = talkFilter(of, wallClock(), {
      hasEndpoint: (id) => endpoints.find(id) !== undefined,
      hasNetwork: (name) => networks.find(name) !== undefined,
      kept: () => this.#kept().map(filteredBy),
    });
    return (report) => wants(filteredBy(report));
  }

  #report(event: PolicyEvent): PolicyEventReport {
    const { kind, atMs, direction, judgement, connections, drop, leftOut, from, to } = event;
    const { endpoints, clock, wallClock } = this.#environment;
    const subject = direction === 'egress' ? from.endpoint : to.endpoint;
    const of = subject === undefined ? undefined : endpoints.find(subject);
    return {
      at: new Date(wallClock() - clock() + atMs).toISOString(),
      event: kind,
      reason: `policy_${direction}`,
      ...endsOfDenial(event, of?.resource.spec.network ?? null),
      judgement: reportJudgement(direction, judgement),
      ...(connections > 0 && { connections }),
      ...(drop !== undefined && { id: `d${drop}` }),
      ...(leftOut > 0 && { leftOut }),
    };
  }
}

function filteredBy({ at, ...event }: PolicyEventReport): Filtered {
  return { ...event, when: at };
}

/** Logs what each sweep has ended. */
export function logSwept(
  reports: Pick<PolicyReports, 'onSwept'>,
  warn: (message: string, details: object) => void,
): void {
  reports.onSwept(({ events, more }) => {
    for (const { event, judgement, connections, from, to, protocol, source, destination } of events) {
      const details = { from, to, protocol, source, destination, connections, because: judgement.text };
      if (event === 'cut') warn('connections cut: policies do not allow them any more', details);
      else warn('staged policies would cut connections', details);
    }
    if (more > 0) warn('more connections cut: `weft policy log` may name them', { connections: more });
  });
}
