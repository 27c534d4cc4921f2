/**
 * Active health checks: each target is checked again and again, and is healthy or not by the last results in a row.
 *
 *   1. a target's first check begins soon, at a random time, so that those which are declared together are not checked together
 *   2. a check waits for its turn: no more than a number of them are under way at the same time, and of one owner no more than
 *      a part of what is left, so that those which wait for answers in vain leave room for all others. It is over when
 *      `dial` says so, or when its time is up
 *   3. the first result decides at once whether the target is healthy. After that, it changes only after a number of
 *      results in a row that say otherwise. So does the reason of one that is unhealthy: a backend that answers something else
 *      each time is no news each time
 *   4. the next check begins an interval after the last one is over, a little earlier or later by chance
 *
 * A target without a result has the state `unknown`. Whoever uses the states takes it for healthy: a daemon that starts must
 * not take all backends out.
 *
 * Sockets, timers and randomness are passed in. It holds one small record for each target, and at most one check or timer
 * of each.
 */

export interface CheckTarget {
  /** Identifies it among all targets. */
  readonly id: string;
  /** Whose it is, such as a service. */
  readonly owner: string;
  /** As text. */
  readonly address: string;
  readonly l4Port: number;
  readonly type: 'tcp' | 'http';
  /** For `http`. */
  readonly path: string;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Results in a row that make it unhealthy, and healthy again. */
  readonly failures: number;
  readonly successes: number;
}

export type HealthState = 'unknown' | 'healthy' | 'unhealthy';

/**
 * Begins one check, and calls `done` once when it is over: without an argument if it has succeeded, otherwise with the reason
 * in a few words. It never does so before it has returned. @returns what ends it early, after which `done` is not called
 */
export type Dial = (target: CheckTarget, done: (failure?: string) => void) => () => void;

export interface CheckerOptions {
  readonly dial: Dial;
  /** Calls back after a time. @returns what cancels it */
  readonly after: (ms: number, action: () => void) => () => void;
  /** 0 to below 1. */
  readonly random: () => number;
  /** How many checks may be under way. */
  readonly mostAtOnce: number;
  /**
   * A target is healthy or unhealthy now, or still unhealthy for another reason.
   * @param why the last failure, in a few words; empty if it is healthy
   */
  readonly onChange: (id: string, state: Exclude<HealthState, 'unknown'>, why: string) => void;
}

export interface TargetHealth {
  readonly state: HealthState;
  /** The last failure; empty if the last check has succeeded, or there was none. */
  readonly failure: string;
  /** Results in a row that are equal to the last one. */
  readonly inARow: number;
}

/** The first check begins within this time, if the interval is not shorter. */
const FIRST_WITHIN_MS = 1000;
/** An interval is this part shorter or longer, at most. */
const JITTER = 0.1;
/** An owner may have this part of what is left under way: an eighth. */
const SHARES = 8;

interface Checked {
  target: CheckTarget;
  state: HealthState;
  failure: string;
  inARow: number;
  /** Failures in a row that are the same as the last one. */
  sameInARow: number;
  /** The reason that was told last; empty if it is not unhealthy. */
  why: string;
  /** Cancels its timer, its place in the queue or its check. */
  cancel: () => void;
}

export class HealthChecker {
  readonly #options: CheckerOptions;
  readonly #checked = new Map<string, Checked>();
  /** Those whose time has come, in this order, by owner. */
  readonly #waiting = new Map<string, Set<Checked>>();
  /** How many are under way of each owner, and of all. */
  readonly #underWayOf = new Map<string, number>();
  #underWay = 0;

  constructor(options: CheckerOptions) {
    this.#options = options;
  }

  /** Checks it from now on. If only times or numbers have changed, it keeps its state. */
  set(target: CheckTarget): void {
    const known = this.#checked.get(target.id);
    if (known && isSamePlace(known.target, target)) {
      const isOtherInterval = known.target.intervalMs !== target.intervalMs;
      known.target = target;
      // The old one may be an hour.
      if (isOtherInterval) this.#soon(known);
      return;
    }
    known?.cancel();
    const checked: Checked = {
      target,
      state: 'unknown',
      failure: '',
      inARow: 0,
      sameInARow: 0,
      why: '',
      cancel: () => {},
    };
    this.#checked.set(target.id, checked);
    this.#soon(checked);
  }

  /** Checks it no more, also if a check is under way. */
  remove(id: string): void {
    this.#checked.get(id)?.cancel();
    this.#checked.delete(id);
  }

  /** Ends all checks. */
  close(): void {
    // Otherwise each check that ends would let the next one begin.
    this.#waiting.clear();
    for (const id of [...this.#checked.keys()]) this.remove(id);
  }

  report(id: string): TargetHealth | undefined {
    const checked = this.#checked.get(id);
    return checked && { state: checked.state, failure: checked.failure, inARow: checked.inARow };
  }

  /** How many checks are late, because too many others are under way. */
  get waiting(): number {
    let count = 0;
    for (const { size } of this.#waiting.values()) count += size;
    return count;
  }

  #soon(checked: Checked): void {
    this.#later(checked, this.#options.random() * Math.min(checked.target.intervalMs, FIRST_WITHIN_MS));
  }

  /** The next check begins then, instead of when it would otherwise. */
  #later(checked: Checked, ms: number): void {
    checked.cancel();
    checked.cancel = this.#options.after(ms, () => {
      const { owner } = checked.target;
      const others = this.#waiting.get(owner);
      if (others) others.add(checked);
      else this.#waiting.set(owner, new Set([checked]));
      checked.cancel = () => this.#waitNoMore(checked);
      this.#next();
    });
  }

  #waitNoMore(checked: Checked): void {
    const { owner } = checked.target;
    const waiting = this.#waiting.get(owner);
    waiting?.delete(checked);
    if (waiting?.size === 0) this.#waiting.delete(owner);
  }

  /** Begins as many of the checks that wait as may be under way. */
  #next(): void {
    for (const [owner, waiting] of this.#waiting) {
      for (const checked of waiting) {
        const left = this.#options.mostAtOnce - this.#underWay;
        if (left === 0) return;
        if ((this.#underWayOf.get(owner) ?? 0) >= Math.ceil(left / SHARES)) break;
        this.#waitNoMore(checked);
        this.#begin(checked);
      }
    }
  }

  #count(owner: string, by: 1 | -1): void {
    this.#underWay += by;
    const count = (this.#underWayOf.get(owner) ?? 0) + by;
    if (count > 0) this.#underWayOf.set(owner, count);
    else this.#underWayOf.delete(owner);
  }

  #begin(checked: Checked): void {
    const { dial, after } = this.#options;
    const { timeoutMs, owner } = checked.target;
    this.#count(owner, 1);
    const over = (): void => {
      this.#count(owner, -1);
      stopTimer();
      checked.cancel = () => {};
    };
    const end = dial(checked.target, (failure) => {
      over();
      this.#result(checked, failure);
    });
    const stopTimer = after(timeoutMs, () => {
      end();
      over();
      this.#result(checked, `no answer within ${timeoutMs} ms`);
    });
    checked.cancel = () => {
      end();
      over();
      this.#next();
    };
  }

  #result(checked: Checked, failure: string | undefined): void {
    const { target, state } = checked;
    const isSuccess = failure === undefined;
    checked.inARow = checked.inARow > 0 && isSuccess === (checked.failure === '') ? checked.inARow + 1 : 1;
    checked.sameInARow = failure === checked.failure ? checked.sameInARow + 1 : 1;
    checked.failure = failure ?? '';
    this.#later(checked, target.intervalMs * (1 - JITTER + 2 * JITTER * this.#options.random()));
    const found = isSuccess ? 'healthy' : 'unhealthy';
    const needed = state === 'unknown' ? 1 : isSuccess ? target.successes : target.failures;
    const isOtherReason = !isSuccess && state === found && checked.failure !== checked.why;
    if (found !== state ? checked.inARow >= needed : isOtherReason && checked.sameInARow >= needed) {
      checked.state = found;
      checked.why = checked.failure;
      this.#options.onChange(target.id, found, checked.failure);
    }
    this.#next();
  }
}

/** Is the same thing checked in the same way? */
function isSamePlace(a: CheckTarget, b: CheckTarget): boolean {
  return a.address === b.address && a.l4Port === b.l4Port && a.type === b.type && a.path === b.path;
}
