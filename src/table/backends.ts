/**
 * Backends that connections are pinned to. Each has a number, which is in the records of its connections and says
 * through which port of which service they have come to which address and port. A number means that as long as a
 * connection has it, whatever becomes of the service.
 *
 * Connections survive a crash, and what is known here does not. But a record has both tuples: where its client wanted to
 * go, and where it goes. So the number of a recovered connection is kept with these two ends (`recover`), and
 * the service whose port and backend they are gets it when it is added (`claim`). If the service no longer has the
 * backend, or none has the port, then it is gone.
 *
 * A backend that is gone leaves at once, and one that terminates has time to drain, and stays beyond that while there are
 * clients who get nobody else. One that is out (`setOut`) leaves as soon as its clients get another one. `ended` tells whose
 * time is over: the owner of the connections closes them, which is how a number becomes free.
 */
import type { Vni } from '../flow/types.ts';
import type { ClientOrigin } from './service-keys.ts';
import { ALL_PORTS, hasAllPorts, type PortRanges } from './port-ranges.ts';

/** One end of a connection. */
export interface L4End {
  readonly address: Uint8Array;
  readonly l4Port: number;
}

/** In which network replies of a backend come in: its own if it is on this host, or that of its client. */
export type RepliesIn = Vni | 'of_client';

export interface PinnedBackend extends L4End {
  /** 32 bits; never 0. */
  readonly pin: number;
  /** The id of the service; undefined until one has claimed it. */
  service: string | undefined;
  /** The id of the port at work that has it (`balanced-port.ts`); undefined until one has. */
  portId: number | undefined;
  /** How many are open on this host. */
  readonly connections: number;
  /** When they end; undefined if they may stay. */
  endsAtMs: number | undefined;
  /** True if they end as soon as there is another backend for their clients. */
  isOut: boolean;
  /** Undefined while nobody knows. */
  replies: RepliesIn | undefined;
  /** Which of its ports its connections may go to. */
  readonly ports: PortRanges;
}

/** Where the client of a recovered connection is, and where it has sent to. */
export interface Front {
  readonly from: ClientOrigin;
  /** `bytesId` of a VIP, or `nodePortId`. */
  readonly front: string;
  readonly protocol: number;
  readonly l4Port: number;
}

/** Where a recovered connection was going. */
export interface Unclaimed extends Front {
  readonly end: L4End;
  /** What its number means. */
  readonly back: PinnedBackend;
}

class Pinned implements PinnedBackend {
  readonly pin: number;
  readonly address: Uint8Array;
  readonly l4Port: number;
  service: string | undefined;
  portId: number | undefined;
  endsAtMs: number | undefined;
  isOut = false;
  replies: RepliesIn | undefined;
  ports = ALL_PORTS;
  /** Those whose end is told. */
  told = 0;
  readonly #others: (pin: number) => number;

  constructor(pin: number, service: string | undefined, { address, l4Port }: L4End, others: (pin: number) => number) {
    this.pin = pin;
    this.service = service;
    this.address = address;
    this.l4Port = l4Port;
    this.#others = others;
  }

  get connections(): number {
    return this.told + this.#others(this.pin);
  }
}

const GONE = -Infinity;
const MOST_PINS = 2 ** 32 - 1;

export class Backends {
  /** By number: those whose connections may still have the other place, and where their replies come in now. */
  readonly moved = new Map<number, RepliesIn>();
  /** By number: those whose connections may still go to other ports than `PinnedBackend.ports`. */
  readonly strayed = new Map<number, Pick<PinnedBackend, 'ports'>>();
  readonly #pinned = new Map<number, Pinned>();
  /**
   * By `Front.front`, then by number: one of the connections. A service may have lost one of its addresses since, and not the
   * others.
   */
  readonly #unclaimed = new Map<string, Map<number, Unclaimed>>();
  /** Those whose connections end at a time, or that are out. */
  readonly #leaving = new Set<PinnedBackend>();
  readonly #others: (pin: number) => number;
  #last = 0;

  /** @param others how many connections to a backend there are whose end nobody tells */
  constructor(others: (pin: number) => number = () => 0) {
    this.#others = others;
  }

  of(pin: number): PinnedBackend | undefined {
    return this.#pinned.get(pin);
  }

  /** True if its number still means it. */
  has(pinned: PinnedBackend): boolean {
    return this.#pinned.get(pinned.pin) === pinned;
  }

  add(service: string, end: L4End): PinnedBackend {
    do this.#last = this.#last === MOST_PINS ? 1 : this.#last + 1;
    while (this.#pinned.has(this.#last));
    const pinned = new Pinned(this.#last, service, end, this.#others);
    this.#pinned.set(pinned.pin, pinned);
    return pinned;
  }

  /** Its service does not have it any more. It is forgotten when its last connection has been closed. */
  remove(pinned: PinnedBackend): void {
    if (!this.has(pinned)) return;
    this.setEnd(pinned, GONE);
    this.#forgetUnused(pinned);
  }

  /** When the connections of a backend end; undefined if they may stay. */
  setEnd(pinned: PinnedBackend, endsAtMs: number | undefined): void {
    pinned.endsAtMs = endsAtMs;
    this.#noteLeaving(pinned);
  }

  /** Its connections end as soon as there is another backend for their clients; or may stay once more. */
  setOut(pinned: PinnedBackend, isOut: boolean): void {
    pinned.isOut = isOut;
    this.#noteLeaving(pinned);
  }

  #noteLeaving(pinned: PinnedBackend): void {
    if (pinned.endsAtMs === undefined && !pinned.isOut) this.#leaving.delete(pinned);
    else this.#leaving.add(pinned);
  }

  /** Its connections may go to these ports, and not any more to others: if they may have, it is among `strayed`. */
  setPorts(pinned: PinnedBackend, ports: PortRanges): void {
    const one = this.#pinned.get(pinned.pin)!;
    if (!hasAllPorts(ports, one.ports) && one.connections > 0) this.strayed.set(one.pin, one);
    one.ports = ports;
  }

  /** Where its replies come in. If that has changed, or is known again after a restart, it is among `moved`. */
  place(pinned: PinnedBackend, replies: RepliesIn): void {
    if (pinned.replies === replies) return;
    pinned.replies = replies;
    if (pinned.connections > 0) this.moved.set(pinned.pin, replies);
  }

  opened(pin: number): void {
    const pinned = this.#pinned.get(pin);
    if (pinned) pinned.told++;
  }

  closed(pin: number): void {
    const pinned = this.#pinned.get(pin);
    if (!pinned) return;
    pinned.told--;
    this.#forgetUnused(pinned);
  }

  /**
   * Takes over a connection that was opened before a restart, before anything else is added.
   * @param end where it goes
   */
  recover(pin: number, from: Front, end: L4End): void {
    const back = this.#pinned.get(pin) ?? new Pinned(pin, undefined, end, this.#others);
    back.told++;
    this.#pinned.set(pin, back);
    this.passOver(pin);
    const others = this.#unclaimed.get(from.front);
    if (!others) this.#unclaimed.set(from.front, new Map([[pin, { ...from, end, back }]]));
    else if (!others.has(pin)) others.set(pin, { ...from, end, back });
  }

  /** The next ones get higher numbers. */
  passOver(pin: number): void {
    this.#last = Math.max(this.#last, pin);
  }

  /**
   * Offers the numbers of connections recovered from there that no service has yet: those for which `take` is true have found
   * theirs.
   * @param front `Front.front`
   */
  claim(front: string, take: (unclaimed: Unclaimed) => boolean): void {
    const unclaimed = this.#unclaimed.get(front);
    for (const [pin, one] of unclaimed ?? []) if (one.back.service !== undefined || take(one)) unclaimed!.delete(pin);
  }

  /** True if a service may claim what was recovered. */
  get hasUnclaimed(): boolean {
    return this.#unclaimed.size > 0;
  }

  /** All services are known: nobody else will claim what was recovered. */
  endUnclaimed(): void {
    for (const all of this.#unclaimed.values()) {
      for (const { back } of all.values()) if (back.service === undefined) this.remove(back);
    }
    this.#unclaimed.clear();
  }

  /**
   * The numbers of those whose connections must end now.
   * @param isNeeded whether clients get one that terminates all the same, or nobody else than one that is out: then its connections stay
   */
  ended(nowMs: number, isNeeded: (pinned: PinnedBackend) => boolean = () => false): ReadonlySet<number> {
    const ended = new Set<number>();
    for (const pinned of this.#leaving) {
      if (!pinned.isOut && pinned.endsAtMs! > nowMs) continue;
      // Nobody may have told of its last one.
      if (pinned.connections === 0) this.#forgetUnused(pinned);
      else if (pinned.endsAtMs === GONE || !isNeeded(pinned)) ended.add(pinned.pin);
    }
    return ended;
  }

  /** When the time of the next ones is over; undefined if it is over for all. */
  nextEndMs(nowMs: number): number | undefined {
    let next = Infinity;
    for (const { endsAtMs = 0 } of this.#leaving) if (endsAtMs > nowMs) next = Math.min(next, endsAtMs);
    return next === Infinity ? undefined : next;
  }

  #forgetUnused(pinned: PinnedBackend): void {
    if (pinned.connections > 0 || pinned.endsAtMs !== GONE) return;
    this.#pinned.delete(pinned.pin);
    this.moved.delete(pinned.pin);
    this.strayed.delete(pinned.pin);
    this.#leaving.delete(pinned);
  }
}
