/**
 * The counters of the reference datapath. They keep the law of conservation at any moment: each frame
 * is counted once where it comes in and once where it ends. A drop is counted at the frame's input
 * port, wherever it happened.
 */
import type { DropReason } from '../../flow/reason.ts';
import type { PortNo } from '../../flow/types.ts';
import type { PortCounters } from '../datapath.ts';

type Drops = Partial<Record<DropReason, number>>;

interface PortTally {
  rxFrames: number;
  rxBytes: number;
  txFrames: number;
  txBytes: number;
  unanswered: number;
  readonly drops: Drops;
}

export class Tally {
  originated = 0;
  copies = 0;
  segments = 0;
  consumed = 0;
  coalesced = 0;
  upcalls = 0;
  unanswered = 0;
  rx = 0;
  tx = 0;
  readonly #drops: Drops = {};
  readonly #ports = new Map<PortNo, PortTally>();

  addPort(port: PortNo): void {
    this.#ports.set(port, { rxFrames: 0, rxBytes: 0, txFrames: 0, txBytes: 0, unanswered: 0, drops: {} });
  }

  /** Removes its counters; the totals stay. */
  removePort(port: PortNo): void {
    this.#ports.delete(port);
  }

  received(port: PortNo, bytes: number, frames = 1): void {
    const tally = this.#ports.get(port)!;
    this.rx += frames;
    tally.rxFrames += frames;
    tally.rxBytes += bytes;
  }

  sent(port: PortNo, lengthBytes: number): void {
    const tally = this.#ports.get(port)!;
    this.tx++;
    tally.txFrames++;
    tally.txBytes += lengthBytes;
  }

  /** @param port where it came in; undefined for a frame that weft made */
  dropped(port: PortNo | undefined, reason: DropReason, frames = 1): void {
    add(this.#drops, reason, frames);
    const tally = port === undefined ? undefined : this.#ports.get(port);
    if (tally) add(tally.drops, reason, frames);
  }

  /** A refused frame from `port` gets no answer because the rate is used up. It is counted as dropped, too. */
  notAnswered(port: PortNo): void {
    this.unanswered++;
    this.#ports.get(port)!.unanswered++;
  }

  /** Returns copies. */
  snapshot(): { drops: Drops; ports: Map<PortNo, PortCounters> } {
    const ports = new Map<PortNo, PortCounters>();
    for (const [port, tally] of this.#ports) ports.set(port, { ...tally, drops: { ...tally.drops } });
    return { drops: { ...this.#drops }, ports };
  }
}

function add(drops: Drops, reason: DropReason, frames: number): void {
  if (frames > 0) drops[reason] = (drops[reason] ?? 0) + frames;
}
