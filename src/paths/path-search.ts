/**
 * What the path to one host takes, found out with probes of its size, by the ideas
 * of RFC 8899: ICMP errors that never come (a black hole) are noticed by what is
 * lost, and those that anybody can forge are not believed.
 *
 *   confirm   does what is believed to pass still do? Asked now and then (§4.3)
 *   base      it was lost several times: is the host there at all? A small probe tells
 *   search    it is: between the two, by halves, the largest size that passes
 *   verify    that still does, and a byte more does not: the search did not meet an outage
 *   edge      does a byte more pass? What was lowered is raised again as soon as it does
 *   hint      the kernel was told of less (§4.6.2): does a byte more pass? Then that was wrong
 *   told      it does not: does what the kernel was told of? Then, if the edge is lost again, that is it
 *
 * Where nothing answers probes, neither size can be tried. What the kernel was told
 * of counts then, but never below what IPv6 inside the tunnel needs.
 *
 * Pure: times are passed in, probes are sent by the caller (`path-prober.ts`), one
 * at a time.
 */

/** Of one size, until it counts as lost (RFC 8899 §5.1.2, MAX_PROBES). */
const MOST_LOST = 3;
export const CONFIRM_MS = 30_000;
/** What was lowered in a hurry, or while the kernel was told otherwise, is looked at again after that long. */
const RECHECK_MS = 1000;

/** A probe that is to be sent; its result is told with the same object. */
export interface SizedProbe {
  /** Of the whole IP packet. */
  readonly bytes: number;
  /** Packets may be lost until the answer is known: a round trip is waited for, and not much longer. */
  readonly isUrgent: boolean;
}

type Phase =
  | { readonly kind: 'confirm' | 'base'; readonly lost: number }
  /** `low` has passed, `high` has not; `bytes` between the two is tried. */
  | { readonly kind: 'search'; readonly low: number; readonly high: number; readonly bytes: number }
  | { readonly kind: 'verify'; readonly low: number; readonly lost: number }
  /** `low` passes; is a byte more lost by itself, or was that an outage? */
  | { readonly kind: 'edge'; readonly low: number; readonly isUrgent: boolean }
  /** The kernel was told that no more than `low` passes. */
  | { readonly kind: 'hint' | 'told'; readonly low: number };

const CONFIRM: Phase = { kind: 'confirm', lost: 0 };

/** The largest first: what was believed, or hoped for, is most likely. */
function searchOf(low: number, largest: number): Phase {
  return { kind: 'search', low, high: largest + 1, bytes: largest };
}

/**
 * What a path takes that no probe can tell of, in bytes.
 *
 * @param ceilingBytes of the interface
 * @param hintBytes what the kernel was told of
 * @param leastBytes what IPv6 inside needs
 */
export function unprobedBytes(ceilingBytes: number, hintBytes: number, leastBytes: number): number {
  return Math.min(ceilingBytes, Math.max(hintBytes, leastBytes));
}

export class PathSearch {
  readonly #baseBytes: number;
  readonly #leastBytes: number;
  #ceiling = 0;
  #hint = 0;
  /** The hint that was looked into last. */
  #triedHint: number | undefined;
  #found: number | undefined;
  #isAnswering = false;
  #isConfirmed = false;
  #phase: Phase = CONFIRM;
  #dueMs = 0;
  #pending: SizedProbe | undefined;

  /**
   * @param baseBytes of a packet that every path takes, and below which nothing is searched for
   * @param leastBytes what the path is taken to pass where no probe says otherwise
   */
  constructor(baseBytes: number, leastBytes: number) {
    this.#baseBytes = baseBytes;
    this.#leastBytes = leastBytes;
  }

  /** What passes, in bytes, as far as that is known. */
  get bytes(): number {
    const known = this.#found ?? this.#ceiling;
    if (this.#isAnswering || this.#hint >= known) return known;
    return unprobedBytes(known, this.#hint, this.#leastBytes);
  }

  /** What probes say that passes, where that is less than the ceiling; undefined where none does. */
  get found(): number | undefined {
    return this.#found;
  }

  /** Does what is believed to pass do so, as far as that was asked of late? What is that small is not doubted. */
  get isConfirmed(): boolean {
    return this.#isConfirmed || this.#ceiling <= this.#baseBytes;
  }

  /** What the interface takes, in bytes: nothing larger is tried. A change is looked into at once. */
  setCeiling(bytes: number, nowMs: number): void {
    if (bytes === this.#ceiling) return;
    if (this.#hint >= this.#ceiling) this.#hint = bytes;
    this.#ceiling = bytes;
    if (this.#found !== undefined && this.#found >= bytes) this.#found = undefined;
    this.#pending = undefined;
    this.#phase = CONFIRM;
    this.#dueMs = nowMs;
  }

  /**
   * What the kernel believes of the path, in bytes: what ICMP told it, or the ceiling. It is
   * looked into when it has changed, at once unless something else is just being looked into.
   */
  setHint(bytes: number, nowMs: number): void {
    if (bytes === this.#hint) return;
    const isLarger = bytes > this.#hint;
    this.#hint = bytes;
    this.#triedHint = undefined;
    // Less was known to pass, and that may be over.
    if (isLarger && this.#found !== undefined && this.#phase.kind === 'confirm') this.#dueMs = nowMs;
  }

  /** What to send now; undefined when nothing is due, or when the last one is still on its way. */
  next(nowMs: number): SizedProbe | undefined {
    if (this.#pending || this.#ceiling <= this.#baseBytes) return undefined;
    if (this.#phase.kind === 'confirm' && this.#isNews()) {
      this.#triedHint = this.#hint;
      this.#phase = { kind: 'hint', low: Math.max(this.#hint, this.#baseBytes) };
      this.#dueMs = nowMs;
    }
    if (nowMs < this.#dueMs) return undefined;
    const { kind } = this.#phase;
    const isUrgent = kind === 'hint' || kind === 'told' || (this.#phase.kind === 'edge' && this.#phase.isUrgent);
    this.#pending = { bytes: this.#size(), isUrgent };
    return this.#pending;
  }

  /** `probe` came back, or did not. What was overtaken by a new ceiling is ignored. */
  result(probe: SizedProbe, isAnswered: boolean, nowMs: number): void {
    if (probe !== this.#pending) return;
    this.#pending = undefined;
    if (isAnswered) this.#isAnswering = true;
    const phase = this.#phase;
    switch (phase.kind) {
      case 'confirm':
        if (!isAnswered) this.#lost(phase, { kind: 'base', lost: 0 });
        else if (this.#found === undefined) this.#wait(true, nowMs + this.#confirmMs());
        else this.#phase = { kind: 'edge', low: this.#found, isUrgent: false };
        return;
      case 'base':
        if (isAnswered) {
          this.#phase = searchOf(this.#baseBytes, this.#found ?? this.#ceiling);
        } else if (this.#lost(phase, CONFIRM)) {
          // The host does not answer at all, which says nothing of its path.
          this.#isAnswering = false;
          this.#wait(false, nowMs + CONFIRM_MS);
        }
        return;
      case 'search': {
        const [low, high] = isAnswered ? [probe.bytes, phase.high] : [phase.low, probe.bytes];
        const isFound = high - low <= 1;
        this.#phase = isFound
          ? { kind: 'verify', low, lost: 0 }
          : { kind: 'search', low, high, bytes: (low + high) >>> 1 };
        return;
      }
      case 'verify':
        if (!isAnswered) this.#lost(phase, CONFIRM);
        else if (phase.low < this.#ceiling) this.#phase = { kind: 'edge', low: phase.low, isUrgent: false };
        else this.#settle(phase.low, nowMs + CONFIRM_MS);
        return;
      case 'edge':
        if (isAnswered) this.#phase = searchOf(phase.low, this.#ceiling);
        else this.#settle(phase.low, nowMs + (phase.isUrgent ? RECHECK_MS : CONFIRM_MS));
        return;
      case 'hint':
        // Where more than that passes, what is believed to is asked next.
        this.#phase = isAnswered ? CONFIRM : { kind: 'told', low: phase.low };
        return;
      case 'told':
        this.#phase = isAnswered ? { kind: 'edge', low: phase.low, isUrgent: true } : { kind: 'base', lost: 0 };
        return;
      default:
        phase satisfies never;
    }
  }

  /** As long as the kernel believes what is wrong, it does not hear what is right (a forged MTU may be locked). */
  #confirmMs(): number {
    return this.#hint < this.#ceiling ? RECHECK_MS : CONFIRM_MS;
  }

  /** Was the kernel told of less than what is believed, and was that not looked into? */
  #isNews(): boolean {
    const isLess = Math.max(this.#hint, this.#baseBytes) < (this.#found ?? this.#ceiling);
    return isLess && this.#hint !== this.#triedHint;
  }

  #size(): number {
    const phase = this.#phase;
    switch (phase.kind) {
      case 'confirm':
        return this.#found ?? this.#ceiling;
      case 'base':
        return this.#baseBytes;
      case 'verify':
      case 'told':
        return phase.low;
      case 'search':
        return phase.bytes;
      case 'edge':
      case 'hint':
        return phase.low + 1;
      default:
        return phase satisfies never;
    }
  }

  /** One more loss; after several the next phase. Was it that one? */
  #lost(phase: Extract<Phase, { lost: number }>, then: Phase): boolean {
    const isLast = phase.lost + 1 >= MOST_LOST;
    this.#phase = isLast ? then : { ...phase, lost: phase.lost + 1 };
    return isLast;
  }

  #settle(bytes: number, againMs: number): void {
    this.#found = bytes < this.#ceiling ? bytes : undefined;
    this.#wait(true, againMs);
  }

  #wait(isConfirmed: boolean, againMs: number): void {
    this.#isConfirmed = isConfirmed;
    this.#phase = CONFIRM;
    this.#dueMs = againMs;
  }
}
