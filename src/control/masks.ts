/**
 * The masks of the cached flows. A lookup in the datapath searches one table for each mask, so there are at most
 * MASK_CAP.
 * When all are in use, flows with another mask stay on the slow path until a mask gives way.
 *
 * Which fields a decision reads depends on the frame, so a container can create masks by what it sends. It must not be
 * able to take the places of others, nor to keep the switch busy with evictions:
 * - Flows that drop get another mask only while there are fewer than DROP_MASKS, and never push one out.
 * - A mask used by n ports counts 1/n for each of them, and the sum is the port's share. The port with the largest
 * share
 *   gives up a mask: of its masks, one that the fewest ports use, and of these the least used one.
 * - A port whose share is smaller by 2 or more gets the place at once. Between equals, use decides: the mask without a
 * place
 *   must be asked for more than twice as often as the other one was hit. So no two masks take turns.
 * - At most one mask gives way in a window of about a second.
 *
 * Use is counted in frames and decays from window to window, so use from long ago does not count. All of this is
 * decided here and not in the datapath, because there each worker knows only its own hits, and every lookup would pay
 * for it.
 *
 * Owned by the thread of the switch.
 */
import { MASK_CAP } from '../flow/bounds.ts';
import type { FlowKey, FlowMask } from '../flow/key.ts';

/** Drops leave the other half of the masks to flows that forward: see `FlowView.isOneOf`. */
export const DROP_MASKS = MASK_CAP / 2;
/** How much smaller the share of a port must be to get the place of another port's mask. */
const SHARE_DIFFERENCE = 2;
/** Between equals: how many times as often the mask without a place must be asked for as the other one is hit. */
const USE_RATIO = 2;
/** A mask that was asked for less often does not need a place. */
const LEAST_MISSES = 2;
/** The part of a use that remains after each window: after ten windows about a quarter. */
const DECAY = 7 / 8;
/** Below this, a refused mask is forgotten. */
const FORGOTTEN_MISSES = 1 / 4;

/** A mask that cached flows use. */
export interface MaskUse {
  readonly mask: FlowMask;
  /** How many cached flows each port has with it. */
  readonly flowsOf: Map<number, number>;
  /** Frames that were decided or hit with it; those of earlier windows have decayed. */
  frames: number;
}

/** A mask for which there was no room. */
interface RefusedMask {
  readonly mask: FlowMask;
  readonly ports: Set<number>;
  /** Frames that were decided with it, counted like `MaskUse.frames`. */
  misses: number;
  /** The key of the last flow that was refused. */
  key: FlowKey;
}

export interface MaskChange {
  /** The mask that gives way; all of its flows must go. */
  readonly leaving: FlowMask;
  /** The mask that gets the place, and the key of a flow that uses it. */
  readonly mask: FlowMask;
  readonly key: FlowKey;
}

export interface MaskStatistics {
  /** Masks that gave way. */
  readonly evicted: number;
  /** Flows that were refused because they drop. */
  readonly refusedDrops: number;
  /** Flows that were refused because their mask was about to go. */
  readonly refusedLeaving: number;
}

export class Masks {
  readonly #used = new Map<FlowMask, MaskUse>();
  readonly #refused = new Map<FlowMask, RefusedMask>();
  #leaving: FlowMask | undefined;
  #evicted = 0;
  #refusedDrops = 0;
  #refusedLeaving = 0;

  get statistics(): MaskStatistics {
    return { evicted: this.#evicted, refusedDrops: this.#refusedDrops, refusedLeaving: this.#refusedLeaving };
  }

  /** True if another flow with this mask may be put, provided that the datapath has room. Counts a refusal. */
  admits(mask: FlowMask, isDrop: boolean): boolean {
    if (mask === this.#leaving) {
      this.#refusedLeaving++;
      return false;
    }
    if (!isDrop || this.#used.size < DROP_MASKS || this.#used.has(mask)) return true;
    this.#refusedDrops++;
    return false;
  }

  /** Notes that a flow of `port` was put. @returns what to pass to `remove` when the flow goes */
  add(mask: FlowMask, port: number): MaskUse {
    let use = this.#used.get(mask);
    if (!use) {
      this.#used.set(mask, (use = { mask, flowsOf: new Map(), frames: this.#refused.get(mask)?.misses ?? 0 }));
      this.#refused.delete(mask);
    }
    use.frames++;
    use.flowsOf.set(port, (use.flowsOf.get(port) ?? 0) + 1);
    return use;
  }

  /** Notes that a flow of `port` has gone. */
  remove({ mask, flowsOf }: MaskUse, port: number): void {
    const others = flowsOf.get(port)! - 1;
    if (others > 0) flowsOf.set(port, others);
    else flowsOf.delete(port);
    if (flowsOf.size > 0) return;
    this.#used.delete(mask);
    if (mask === this.#leaving) this.#leaving = undefined;
  }

  /** Notes that the datapath had no room for a flow with this mask that does not drop. @param key is kept */
  refuse(mask: FlowMask, port: number, key: FlowKey): void {
    let refused = this.#refused.get(mask);
    if (!refused) this.#refused.set(mask, (refused = { mask, ports: new Set(), misses: 0, key }));
    refused.ports.add(port);
    refused.misses++;
    refused.key = key;
  }

  /** Ends a window, after all of its frames were counted. @returns which mask gives way to which, if any does */
  endWindow(): MaskChange | undefined {
    const change = this.#change();
    for (const use of this.#used.values()) use.frames *= DECAY;
    for (const refused of this.#refused.values()) {
      refused.misses *= DECAY;
      if (refused.misses < FORGOTTEN_MISSES) this.#refused.delete(refused.mask);
    }
    if (!change) return undefined;
    this.#leaving = change.leaving;
    this.#evicted++;
    return change;
  }

  #change(): MaskChange | undefined {
    const wanted = [...this.#refused.values()].filter(({ misses }) => misses >= LEAST_MISSES);
    if (wanted.length === 0 || this.#used.size < MASK_CAP || this.#leaving) return undefined;
    const shares = this.#shares();
    const shareOf = ({ ports }: RefusedMask): number => Math.min(...Array.from(ports, (port) => shares.get(port) ?? 0));
    const [heir] = wanted.sort((a, b) => shareOf(a) - shareOf(b) || b.misses - a.misses);
    const [[largest, share]] = [...shares].sort(([a, m], [b, n]) => n - m || a - b) as [[number, number]];
    const [least] = [...this.#used.values()]
      .filter(({ flowsOf }) => flowsOf.has(largest))
      .sort((a, b) => a.flowsOf.size - b.flowsOf.size || a.frames - b.frames);
    const hasMuchLess = share - shareOf(heir!) >= SHARE_DIFFERENCE;
    if (!hasMuchLess && heir!.misses <= USE_RATIO * least!.frames) return undefined;
    return { leaving: least!.mask, mask: heir!.mask, key: heir!.key };
  }

  #shares(): Map<number, number> {
    const shares = new Map<number, number>();
    for (const { flowsOf } of this.#used.values()) {
      for (const port of flowsOf.keys()) shares.set(port, (shares.get(port) ?? 0) + 1 / flowsOf.size);
    }
    return shares;
  }
}
