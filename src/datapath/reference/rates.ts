/**
 * Limits how much may pass each port: its token buckets, the frames that wait for them, and its
 * upcalls. native/datapath.cc ("Waiting for a rate") does the same.
 */
import { fields } from '../../flow/fields.ts';
import { readNumber, type FlowKey } from '../../flow/key.ts';
import type { PortNo } from '../../flow/types.ts';
import { ETH_IPV4, ETH_IPV6 } from '../../wire/ethernet.ts';
import { IP_UDP } from '../../wire/ipv4.ts';
import type { PortRates } from '../datapath.ts';
import { bucketsOf, type Bucket, type Buckets } from './bucket.ts';
import { segmentCount, wireBytes, type Frame } from './offload.ts';
import { RateQueue } from './rate-queue.ts';
import type { Tally } from './tally.ts';
import { UpcallRate } from './upcall-rate.ts';

type Direction = 'ingress' | 'egress';

/** Where a frame goes when its port's rate admits it. */
export interface Onward {
  ingress(port: PortNo, key: FlowKey, frame: Frame): void;
  egress(port: PortNo, frame: Frame, from: PortNo | undefined): void;
}

export class Rates {
  readonly #clock: () => number;
  readonly #tally: Tally;
  readonly #onward: Onward;
  readonly #buckets = new Map<PortNo, Buckets>();
  readonly #upcalls = new Map<PortNo, UpcallRate>();
  /** The queues that are not empty, in the order in which they stopped being empty. */
  #waiting: { readonly port: PortNo; readonly direction: Direction; readonly queue: RateQueue }[] = [];
  #dueMs = Number.POSITIVE_INFINITY;

  constructor(clock: () => number, tally: Tally, onward: Onward) {
    this.#clock = clock;
    this.#tally = tally;
    this.#onward = onward;
  }

  /** Sets the rates of a port, starting with full buckets. */
  set(port: PortNo, rates: PortRates = {}): void {
    this.#buckets.set(port, bucketsOf(rates));
    if (rates.upcalls) this.#upcalls.set(port, new UpcallRate(rates.upcalls));
    else this.#upcalls.delete(port);
  }

  /** The same for a port with waiting frames, which the new rates may admit. */
  replace(port: PortNo, rates: PortRates): void {
    this.set(port, rates);
    this.#dueMs = 0;
    this.release();
  }

  /** Called when `port` has been removed: drops the frames that wait for its rates. */
  delete(port: PortNo): void {
    this.#buckets.delete(port);
    this.#upcalls.delete(port);
    for (const { direction, queue } of this.#waiting.filter((one) => one.port === port)) {
      const reason = direction === 'ingress' ? 'upcall_lost' : 'port_gone';
      while (queue.length > 0) this.#tally.dropped(queue.pop().from, reason);
    }
    this.#waiting = this.#waiting.filter((one) => one.port !== port);
  }

  storm(port: PortNo): Bucket | undefined {
    return this.#buckets.get(port)?.storm;
  }

  /** May a refused frame from `port` be answered now? */
  admitsAnswer(port: PortNo): boolean {
    return this.#buckets.get(port)?.answers?.take(1, this.#clock()) ?? true;
  }

  /**
   * May a frame from `port` go to weft's own sockets now? One is taken for each packet, and one more for each KiB, since
   * what waits there takes memory. What the rate refuses is not on its way, so it does not count as unanswered; nor does TCP,
   * which has a window, and whose segments are not answered one by one.
   */
  admitsToSockets(port: PortNo, frame: Frame, key: FlowKey): boolean {
    const { sockets, unanswered } = this.#buckets.get(port) ?? {};
    const units = segmentCount(frame) + (frame.bytes.length >> 10);
    const nowMs = this.#clock();
    if (!(sockets?.take(units, nowMs) ?? true)) return false;
    return !isUdp(key) || (unanswered?.take(units, nowMs) ?? true);
  }

  /** A frame from weft's own sockets goes to `port`. */
  answeredBySockets(port: PortNo, frame: Frame, key: FlowKey): void {
    if (isUdp(key)) this.#buckets.get(port)?.unanswered?.give(segmentCount(frame));
  }

  upcalls(port: PortNo): UpcallRate | undefined {
    return this.#upcalls.get(port);
  }

  /** True if an incoming frame may go on now. If not, it waits or was dropped. */
  admitsIn(port: PortNo, key: FlowKey, frame: Frame): boolean {
    return this.#admits(port, 'ingress', frame, key, port);
  }

  /** The same for a frame that leaves by `port`. */
  admitsOut(port: PortNo, frame: Frame, from: PortNo | undefined): boolean {
    return this.#admits(port, 'egress', frame, undefined, from);
  }

  #admits(
    port: PortNo,
    direction: Direction,
    frame: Frame,
    key: FlowKey | undefined,
    from: PortNo | undefined,
  ): boolean {
    const bucket = this.#buckets.get(port)?.[direction];
    if (!bucket) return true;
    const nowMs = this.#clock();
    const bytes = wireBytes(frame);
    const filled = this.#waiting.find(
      (one) => one.port === port && one.direction === direction && one.queue.length > 0,
    )?.queue;
    if (!filled && bucket.take(bytes, nowMs)) return true;
    const queue = filled ?? new RateQueue();
    if (!queue.push({ frame, key, from, wireBytes: bytes }, bucket.queue)) {
      this.#tally.dropped(from, `rate_limit_${direction}`);
    } else if (!filled) {
      this.#waiting.push({ port, direction, queue });
      this.#dueMs = Math.min(this.#dueMs, bucket.againMs(nowMs));
    }
    return false;
  }

  /**
   * Sends the waiting frames that the rates now admit. A frame from an ingress queue may then have to wait in an egress
   * queue. If that queue was empty, it is appended to the list, so this loop reaches it too.
   */
  release(): void {
    const nowMs = this.#clock();
    if (nowMs < this.#dueMs) return;
    this.#dueMs = Number.POSITIVE_INFINITY;
    for (const { port, direction, queue } of this.#waiting) {
      const bucket = this.#buckets.get(port)?.[direction];
      for (let next = queue.front; next; next = queue.front) {
        if (bucket && !bucket.take(next.wireBytes, nowMs)) {
          this.#dueMs = Math.min(this.#dueMs, bucket.againMs(nowMs));
          break;
        }
        queue.pop();
        if (direction === 'ingress') this.#onward.ingress(port, next.key!, next.frame);
        else this.#onward.egress(port, next.frame, next.from);
      }
    }
    this.#waiting = this.#waiting.filter(({ queue }) => queue.length > 0);
  }

  /** The time until `release` has something to do; undefined if nothing waits. */
  get dueInMs(): number | undefined {
    return this.#waiting.length === 0 ? undefined : Math.max(0, this.#dueMs - this.#clock());
  }

  /** The number of waiting frames. */
  get held(): number {
    return this.#waiting.reduce((sum, { queue }) => sum + queue.length, 0);
  }
}

function isUdp(key: FlowKey): boolean {
  const type = readNumber(key, fields.eth_type);
  return readNumber(key, fields.ip_proto) === IP_UDP && (type === ETH_IPV4 || type === ETH_IPV6);
}
