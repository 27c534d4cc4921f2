/**
 * What follows services: what there is, and then each service that is seen differently, looked for again and again.
 *
 * A look compares what would be shown with what was told. So nothing that changes them has to tell anybody, connections that
 * come and go between two looks cost nothing, and a reader that is slow gets less: the next look begins when it has taken
 * everything, and nothing waits for it. Of each service, only a digest is kept.
 */
import { createHash } from 'node:crypto';
import { WeftError } from '../error.ts';
import { idOf, nameOf } from '../model/name.ts';
import type { ServiceEvent, ServiceNews, ServiceReport } from '../model/service-report.ts';

/** The time between two looks is at least so long, and so many times longer than a look takes; but not longer than that. */
const PAUSE_MS = { shortest: 1000, longest: 10_000 };
const PAUSES_A_LOOK = 9;
/** How many events are told at once. */
const AT_ONCE = 64;

export interface ServiceWatchEnvironment {
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
}

/**
 * Ends when `signal` is aborted.
 * @param list what there is now; throws `not_found` if it is one service that is not there
 */
export async function* watchServices(
  { clock, after }: ServiceWatchEnvironment,
  list: () => AsyncIterable<ServiceReport>,
  signal: AbortSignal,
): AsyncGenerator<ServiceNews> {
  const told = new Map<string, string>();
  for (let isFirst = true; !signal.aborted; isFirst = false) {
    const beganMs = clock();
    const gone = new Set(told.keys());
    let events: ServiceEvent[] = [];
    for await (const object of found(list)) {
      const id = idOf(object);
      const digest = digestOf(object);
      gone.delete(id);
      if (told.get(id) === digest) continue;
      events.push({ type: told.has(id) ? 'MODIFIED' : 'ADDED', object });
      told.set(id, digest);
      if (events.length < AT_ONCE) continue;
      yield { events, isListed: false };
      if (signal.aborted) return;
      events = [];
    }
    for (const id of gone) {
      told.delete(id);
      events.push({ type: 'DELETED', object: nameOf(id) });
    }
    if (events.length > 0 || isFirst) yield { events, isListed: isFirst };
    const lookMs = clock() - beganMs;
    await pause(Math.min(PAUSE_MS.longest, Math.max(PAUSE_MS.shortest, PAUSES_A_LOOK * lookMs)));
  }

  function pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const end = (): void => {
        cancel();
        signal.removeEventListener('abort', end);
        resolve();
      };
      const cancel = after(delayMs, end);
      signal.addEventListener('abort', end);
    });
  }
}

/** One that is named may have gone. */
async function* found(list: () => AsyncIterable<ServiceReport>): AsyncGenerator<ServiceReport> {
  try {
    yield* list();
  } catch (error) {
    if (!(error instanceof WeftError && error.code === 'not_found')) throw error;
  }
}

function digestOf(report: ServiceReport): string {
  return createHash('sha1').update(JSON.stringify(report)).digest('base64');
}
