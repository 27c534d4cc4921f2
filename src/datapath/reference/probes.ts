/** The probes of the reference datapath at work: `liveness.ts` with the clock, the tunnel and a timer. */
import type { DropReason } from '../../flow/reason.ts';
import { PROBE_VNI } from '../../wire/probe.ts';
import { buildVxlan } from '../../wire/vxlan.ts';
import type { Liveness, LivenessSettings, PeerLiveness, ProbeStranger } from '../liveness.ts';
import { ReferenceLiveness } from './liveness.ts';
import type { Sender } from './send.ts';

export interface ProbesOptions {
  readonly clock: () => number;
  readonly sender: Sender;
  /** Runs work that may transmit, and hands over what follows from it. */
  readonly inTurn: (work: () => void) => void;
  /** Receives what has arrived from the kernel. @returns until when all was received that had arrived */
  readonly drain: () => number;
  /** If it is given, probes go out by themselves; otherwise when `run` is called. */
  readonly setTimer: typeof setTimeout | undefined;
  readonly onChanged: (() => void) | undefined;
}

export class Probes implements Liveness {
  readonly #options: ProbesOptions;
  readonly #liveness = new ReferenceLiveness();
  #timer: NodeJS.Timeout | undefined;
  #timerDueMs = Infinity;
  #isClosed = false;

  constructor(options: ProbesOptions) {
    this.#options = options;
  }

  set(settings: LivenessSettings): void {
    this.#options.inTurn(() => this.#liveness.configure(settings, this.#options.clock()));
  }

  peers(): PeerLiveness[] {
    return this.#liveness.report(this.#options.clock());
  }

  strangers(): ProbeStranger[] {
    return this.#liveness.strangers();
  }

  run(): number | undefined {
    if (this.#options.setTimer) return undefined;
    this.#run();
    return Number.isFinite(this.#liveness.dueMs) ? this.#liveness.dueMs : undefined;
  }

  /** @returns why the probe is refused; undefined if it was taken */
  receive(source: Uint8Array, frame: Uint8Array): DropReason | undefined {
    return this.#liveness.receive(source, frame, this.#options.clock());
  }

  /** The tunnel is open at this address, or closed. */
  open(local: Uint8Array | undefined): void {
    this.#liveness.open(local, this.#options.clock());
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** After each piece of work: tells what has changed, and sets the timer. */
  settle(): void {
    if (this.#isClosed) return;
    if (this.#liveness.takeChanged()) this.#options.onChanged?.();
    const { setTimer, clock } = this.#options;
    const { dueMs } = this.#liveness;
    if (!setTimer || dueMs === this.#timerDueMs) return;
    clearTimeout(this.#timer);
    this.#timerDueMs = dueMs;
    if (!Number.isFinite(dueMs)) return;
    this.#timer = setTimer(() => {
      this.#timerDueMs = Infinity;
      this.#run(this.#options.drain());
    }, dueMs - clock());
    this.#timer.unref();
  }

  #run(readUntilMs?: number): void {
    const { clock, inTurn, sender } = this.#options;
    inTurn(() =>
      this.#liveness.run(
        clock(),
        (to, entropy, frame) => sender.sendProbe(to, entropy, buildVxlan({ vni: PROBE_VNI, frame }), frame.length),
        readUntilMs,
      ),
    );
  }
}
