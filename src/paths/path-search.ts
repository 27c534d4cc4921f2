/**
 * Finds out with probes what the path to one host passes, after the ideas of RFC 8899: a black
 * hole, where ICMP errors never come, is noticed by lost probes; ICMP errors, which anybody can
 * forge, are not believed.
 *
 *   confirm   does the size that is believed to pass still pass? Asked now and then (§4.3)
 *   base      it was lost several times: is the host there at all? A small probe tells
 *   search    it is: bisect for the largest size that passes
 *   verify    that size still passes, and one byte more does not: the search did not meet an outage
 *   edge      does one byte more pass? A lowered size is raised again as soon as it does
 *   hint      the kernel was told a smaller size (§4.6.2): does one byte more pass? Then that was wrong
 *   told      it does not: does that smaller size pass? Then, if the edge is lost again, that is the answer
 *
 * If nothing answers probes, no size can be tried. Then the size that the kernel was told
 * counts, but never less than IPv6 inside the tunnel needs.
 *
 * Pure: times are passed in, and the caller sends the probes (`path-prober.ts`), one at a time.
 */

/** Probes of one size that are lost before the size counts as lost (RFC 8899 §5.1.2, MAX_PROBES). */
const MOST_LOST = 3;
export const CONFIRM_MS = 30_000;
/** A size that was lowered in a hurry, or while the kernel was told otherwise, is checked again after this time. */
const RECHECK_MS = 1000;

/** A probe to be sent; its result is reported with the same object. */
export interface SizedProbe {
  /** Size of the whole IP packet. */
  readonly bytes: number;
  /** Packets may be lost until the answer is known, so the wait is a round trip and not much longer. */
  readonly isUrgent: boolean;
}

type Phase =
  | { readonly kind: 'confirm' | 'base'; readonly lost: number }
  /** `low` has passed, `high` has not; a size between the two, `bytes`, is being tried. */
  | { readonly kind: 'search'; readonly low: number; readonly high: number; readonly bytes: number }
  | { readonly kind: 'verify'; readonly low: number; readonly lost: number }
  /** `low` passes; is one byte more always lost, or was that an outage? */
  | { readonly kind: 'edge'; readonly low: number; readonly isUrgent: boolean }
  /** The kernel was told that no more than `low` passes. */
  | { readonly kind: 'hint' | 'told'; readonly low: number };

const CONFIRM: Phase = { kind: 'confirm', lost: 0 };

/** Starts with the largest size: the one that was believed, or hoped for, is the most likely. */
function searchOf(low: number, largest: number): Phase {
  return { kind: 'search', low, high: largest + 1, bytes: largest };
}

/**
 * What a path that cannot be probed is assumed to pass, in bytes.
 *
 * @param ceilingBytes MTU of the interface
 * @param hintBytes what the kernel was told
 * @param leastBytes what IPv6 inside the tunnel needs
 */
export function unprobedBytes(ceilingBytes: number, hintBytes: number, leastBytes: number): number {
  return Math.min(ceilingBytes, Math.max(hintBytes, leastBytes));
}

export class PathSearch {
  readonly #baseBytes: number;
  readonly #leastBytes: number;
  #ceiling = 0;
  #hint = 0;
  /** The hint that was tried last. */
  #triedHint: number | undefined;
  #found: number | undefined;
  #isAnswering = false;
  #isConfirmed = false;
  #phase: Phase = CONFIRM;
  #dueMs = 0;
  #pending: SizedProbe | undefined;

  /**
   * @param baseBytes size of a packet that every path passes; nothing below it is searched for
   * @param leastBytes what the path is assumed to pass unless a probe says otherwise
   */
  constructor(baseBytes: number, leastBytes: number) {
    this.#baseBytes = baseBytes;
    this.#leastBytes = leastBytes;
  }

  /** What passes, in bytes, as far as is known. */
  get bytes(): number {
    const known = this.#found ?? this.#ceiling;
    if (this.#isAnswering || this.#hint >= known) return known;
    return unprobedBytes(known, this.#hint, this.#leastBytes);
  }

  /** What passes according to probes, if that is less than the ceiling; undefined if it is not. */
  get found(): number | undefined {
    return this.#found;
  }

  /** Did a recent probe of the believed size pass? The smallest sizes are never doubted. */
  get isConfirmed(): boolean {
    return this.#isConfirmed || this.#ceiling <= this.#baseBytes;
  }

  /** The interface's MTU, in bytes: nothing larger is tried. A change is tested at once. */
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
   * What the kernel believes about the path, in bytes: what ICMP told it, or the ceiling. A change
   * is tested at once, unless something else is just being tested.
   */
  setHint(bytes: number, nowMs: number): void {
    if (bytes === this.#hint) return;
    const isLarger = bytes > this.#hint;
    this.#hint = bytes;
    this.#triedHint = undefined;
    // A smaller size was known to pass, and that limit may be gone.
    if (isLarger && this.#found !== undefined && this.#phase.kind === 'confirm') this.#dueMs = nowMs;
  }

  /** The probe to send now; undefined if none is due, or the last one is still under way. */
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

  /** `probe` came back, or did not. A result that a new ceiling has made obsolete is ignored. */
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
          // The host does not answer at all, which says nothing about the path.
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
        // If more than that passes, the size that is believed to pass is tried next.
        this.#phase = isAnswered ? CONFIRM : { kind: 'told', low: phase.low };
        return;
      case 'told':
        this.#phase = isAnswered ? { kind: 'edge', low: phase.low, isUrgent: true } : { kind: 'base', lost: 0 };
        return;
      default:
        phase satisfies never;
    }
  }

  /** While the kernel believes something wrong, it does not hear what is right (a forged MTU may be locked). */
  #confirmMs(): number {
    return this.#hint < this.#ceiling ? RECHECK_MS : CONFIRM_MS;
  }

  /** Was the kernel told a smaller size than the believed one, which has not been tested yet? */
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

  /** Counts one more loss, and goes to the next phase after several. Returns true if it did. */
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
