/**
 * What the path to one host takes, found out with probes of its size, by the ideas
 * of RFC 8899: ICMP errors that never come (a black hole) are noticed by what is
 * lost.
 *
 *   confirm   does what is believed to pass still do? Asked now and then (§4.3)
 *   base      it was lost several times: is the host there at all? A small probe tells
 *   search    it is: between the two, by halves, the largest size that passes
 *   verify    that still does, and a byte more does not: the search did not meet an outage
 *
 * What was lowered is tried to be raised again: soon once, since the search may
 * have met a loss that was only that, and rarely from then on (§5.1.1,
 * PMTU_RAISE_TIMER).
 *
 * Pure: times are passed in, probes are sent by the caller (`path-prober.ts`), one
 * at a time.
 */

/** Of one size, until it counts as lost (RFC 8899 §5.1.2, MAX_PROBES). */
const MOST_LOST = 3;
export const CONFIRM_MS = 30_000;
export const RAISE_MS = 600_000;

/** A probe that is to be sent; its result is told with the same object. */
export interface SizedProbe {
  /** Of the whole IP packet. */
  readonly bytes: number;
}

type Phase =
  | { readonly kind: 'confirm' | 'base'; readonly lost: number }
  /** `low` has passed, `high` has not; `bytes` between the two is tried. */
  | { readonly kind: 'search'; readonly low: number; readonly high: number; readonly bytes: number }
  | { readonly kind: 'verify'; readonly low: number; readonly lost: number }
  /** `low` is verified; is a byte more lost by itself, or was that an outage? */
  | { readonly kind: 'edge'; readonly low: number };

const CONFIRM: Phase = { kind: 'confirm', lost: 0 };

/** The largest first: what was believed, or hoped for, is most likely. */
function searchOf(low: number, largest: number): Phase {
  return { kind: 'search', low, high: largest + 1, bytes: largest };
}

export class PathSearch {
  readonly #baseBytes: number;
  #ceiling = 0;
  #found: number | undefined;
  #isConfirmed = false;
  #phase: Phase = CONFIRM;
  #dueMs = 0;
  #raiseAtMs = 0;
  #pending: SizedProbe | undefined;

  /** @param baseBytes of a packet that every path takes, and below which nothing is searched for */
  constructor(baseBytes: number) {
    this.#baseBytes = baseBytes;
  }

  /** What passes, where that is less than the ceiling; undefined where nothing says so. */
  get found(): number | undefined {
    return this.#found;
  }

  /** Does what is believed to pass do so, as far as that was asked of late? What is that small is not doubted. */
  get isConfirmed(): boolean {
    return this.#isConfirmed || this.#ceiling <= this.#baseBytes;
  }

  /** What else is known of the path, in bytes: nothing larger is tried. A change is looked into at once. */
  setCeiling(bytes: number, nowMs: number): void {
    if (bytes === this.#ceiling) return;
    this.#ceiling = bytes;
    if (this.#found !== undefined && this.#found >= bytes) this.#found = undefined;
    this.#pending = undefined;
    this.#phase = CONFIRM;
    this.#dueMs = nowMs;
    this.#raiseAtMs = nowMs;
  }

  /** What to send now; undefined when nothing is due, or when the last one is still on its way. */
  next(nowMs: number): SizedProbe | undefined {
    if (this.#pending || nowMs < this.#dueMs || this.#ceiling <= this.#baseBytes) return undefined;
    this.#pending = { bytes: this.#size() };
    return this.#pending;
  }

  /** `probe` came back, or did not. What was overtaken by a new ceiling is ignored. */
  result(probe: SizedProbe, isAnswered: boolean, nowMs: number): void {
    if (probe !== this.#pending) return;
    this.#pending = undefined;
    const phase = this.#phase;
    if (phase.kind === 'search') {
      const [low, high] = isAnswered ? [probe.bytes, phase.high] : [phase.low, probe.bytes];
      const isFound = high - low <= 1;
      this.#phase = isFound
        ? { kind: 'verify', low, lost: 0 }
        : { kind: 'search', low, high, bytes: (low + high) >>> 1 };
    } else if (phase.kind === 'edge') {
      if (isAnswered) this.#phase = searchOf(phase.low, this.#ceiling);
      else this.#settle(phase.low, nowMs);
    } else if (!isAnswered && phase.lost + 1 < MOST_LOST) {
      this.#phase = { ...phase, lost: phase.lost + 1 };
    } else if (phase.kind === 'verify') {
      if (!isAnswered) this.#phase = CONFIRM;
      else if (phase.low < this.#ceiling) this.#phase = { kind: 'edge', low: phase.low };
      else this.#settle(phase.low, nowMs);
    } else if (phase.kind === 'confirm' && !isAnswered) {
      this.#phase = { kind: 'base', lost: 0 };
    } else if (phase.kind === 'base' && isAnswered) {
      this.#phase = searchOf(this.#baseBytes, this.#found ?? this.#ceiling);
    } else if (phase.kind === 'confirm' && this.#found !== undefined && nowMs >= this.#raiseAtMs) {
      this.#phase = searchOf(this.#found, this.#ceiling);
    } else {
      // It passes as before; or the host does not answer at all, which says nothing of its path.
      this.#wait(isAnswered, nowMs);
    }
  }

  #size(): number {
    const phase = this.#phase;
    switch (phase.kind) {
      case 'confirm':
        return this.#found ?? this.#ceiling;
      case 'base':
        return this.#baseBytes;
      case 'verify':
        return phase.low;
      case 'search':
        return phase.bytes;
      case 'edge':
        return phase.low + 1;
      default:
        return phase satisfies never;
    }
  }

  #settle(bytes: number, nowMs: number): void {
    const isRaise = this.#found !== undefined && bytes >= this.#found;
    this.#raiseAtMs = nowMs + (isRaise ? RAISE_MS : CONFIRM_MS);
    this.#found = bytes < this.#ceiling ? bytes : undefined;
    this.#wait(true, nowMs);
  }

  #wait(isConfirmed: boolean, nowMs: number): void {
    this.#isConfirmed = isConfirmed;
    this.#phase = CONFIRM;
    this.#dueMs = nowMs + CONFIRM_MS;
  }
}
