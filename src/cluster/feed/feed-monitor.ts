/**
 * Watches over a feed (`shared-feed.ts`) from what it sees of it, whatever the cause may be:
 *
 *   - a store that answers and is not followed for long is told, and told again when it is followed
 *   - what this host has written is not reported: the watch is dead, and all is read again
 *   - a write is refused for what is not as it is known here, and nothing that changes that is reported: then what is known
 *     may be wrong, and is compared with the store at once
 */
import type { Expectation } from '../../store/store.ts';

/** After so many ticks, a store that answers is told as not followed. */
const NOT_FOLLOWED_TICKS = 30;
/** After so many ticks without any report, the watch of a store that has something to report is dead. */
const SILENT_TICKS = 10;
/** After so many ticks, whatever a write was refused for has been reported. */
const DOUBT_TICKS = 3;
/** How many ticks pass between two comparisons for a doubt. */
const BETWEEN_DOUBTS_TICKS = 60;
/** How many records a message names. */
const MOST_NAMED = 5;

export interface MonitorEnvironment {
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  readonly logger: Readonly<Record<'info' | 'error' | 'warn', (details: object, message: string) => void>>;
  /** The last revision that the watch has reported. */
  readonly told: () => number;
  /** The last revision of this host's own that it has to report; 0 for none. */
  readonly made: () => number;
  /** True if the store has that, as far as it is known here. */
  readonly isStored: (expectation: Expectation) => boolean;
}

export class FeedMonitor {
  readonly #environment: MonitorEnvironment;
  /** Since when the store is not followed. */
  #away: { readonly sinceMs: number; ticks: number } | undefined;
  #notFollowed: { readonly why: string; readonly since: string } | undefined;
  #silentTicks = 0;
  #toldBefore = 0;
  /** What a write was refused for, and how long ago. */
  #doubt: { readonly expect: readonly Expectation[]; ticks: number } | undefined;
  #pauseTicks = 0;

  constructor(environment: MonitorEnvironment) {
    this.#environment = environment;
  }

  /** For the operator. */
  get notFollowed(): { readonly why: string; readonly since: string } | undefined {
    return this.#notFollowed;
  }

  /** A write was refused because not all of this is so. */
  doubt(expect: readonly Expectation[]): void {
    if (this.#doubt || this.#pauseTicks > 0 || !expect.every(this.#environment.isStored)) return;
    this.#doubt = { expect, ticks: 0 };
  }

  /**
   * Called about once a second.
   * @param why the store is not followed although it should be @param isWatching it is followed
   * @returns what has to be done: all is to be read again, or to be compared
   */
  tick(why: string | undefined, isWatching: boolean): 'read' | 'audit' | undefined {
    this.#note(why, isWatching);
    if (this.#pauseTicks > 0) this.#pauseTicks--;
    if (!isWatching) {
      this.#silentTicks = 0;
      this.#doubt = undefined;
      return undefined;
    }
    if (this.#isSilent()) return 'read';
    return this.#isDoubtful() ? 'audit' : undefined;
  }

  #note(why: string | undefined, isWatching: boolean): void {
    const { wallClock, logger } = this.#environment;
    if (why === undefined) {
      if (this.#notFollowed && isWatching) logger.info({}, 'the store is followed again');
      this.#away = undefined;
      this.#notFollowed = undefined;
      return;
    }
    this.#away ??= { sinceMs: wallClock(), ticks: 0 };
    if (++this.#away.ticks < NOT_FOLLOWED_TICKS) return;
    const since = new Date(this.#away.sinceMs).toISOString();
    if (this.#notFollowed?.why !== why) logger.error({ why, since }, 'the store answers, and is not followed');
    this.#notFollowed = { why, since };
  }

  #isSilent(): boolean {
    const { told, made, logger } = this.#environment;
    const isDue = made() > told() && told() === this.#toldBefore;
    this.#toldBefore = told();
    this.#silentTicks = isDue ? this.#silentTicks + 1 : 0;
    if (this.#silentTicks < SILENT_TICKS) return false;
    this.#silentTicks = 0;
    logger.warn({ revision: made() }, 'the store does not report what this host wrote: all is read again');
    return true;
  }

  #isDoubtful(): boolean {
    const { isStored, logger } = this.#environment;
    if (!this.#doubt || ++this.#doubt.ticks < DOUBT_TICKS) return false;
    const { expect } = this.#doubt;
    this.#doubt = undefined;
    if (!expect.every(isStored)) return false;
    this.#pauseTicks = BETWEEN_DOUBTS_TICKS;
    logger.warn(
      { records: expect.length, named: expect.slice(0, MOST_NAMED).map(({ key }) => key) },
      'the store refuses what fits what is known of it: it is compared',
    );
    return true;
  }
}
