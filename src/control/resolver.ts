/**
 * Finding neighbors: asking who has an address, and the frames that wait until that is known. These are the upcalls of
 * routed flows whose next hop is not an endpoint that weft knows.
 *
 * They wait undecided, parked in the datapath like every miss, so they are bounded for each port and
 * stay in order. An address is asked for at once, then at every tick. If nobody has answered by then,
 * it counts as failed for a while. A neighbor that flows use is asked again when it has not been heard of for long.
 *
 * Owned by the thread of the switch.
 */
import type { Upcall } from '../datapath/datapath.ts';
import type { Vni } from '../flow/types.ts';
import type { Decision } from '../pipeline/decide.ts';
import { neighborRequest } from '../pipeline/reply.ts';
import type { NeighborName, Tables } from '../pipeline/stage.ts';
import { neighborObject } from '../table/neighbor.ts';

/** How often an address is asked for, a second apart (RFC 4861 §10, MAX_MULTICAST_SOLICIT). */
const MOST_ASKED = 3;

export interface ResolverOptions {
  readonly tables: Pick<Tables, 'topology' | 'neighbors'>;
  /** Sends a frame in which weft asks in a network. */
  readonly originate: (frame: Uint8Array, from: { readonly vni: Vni }) => Decision;
  readonly enforce: () => void;
  /** Answers upcalls that do not wait any more. */
  readonly handle: (upcalls: readonly Upcall[]) => void;
  /** True if a cached flow has consulted the object. */
  readonly isConsulted: (object: string) => boolean;
}

interface Waiting {
  readonly neighbor: NeighborName;
  readonly upcalls: Upcall[];
  asked: number;
}

export class Resolver {
  readonly #options: ResolverOptions;
  readonly #waiting = new Map<string, Waiting>();

  constructor(options: ResolverOptions) {
    this.#options = options;
  }

  /** The upcall waits until this neighbor is known. */
  wait(neighbor: NeighborName, upcall: Upcall, nowMs: number): void {
    const { vni, ip } = neighbor;
    // Asked before it waits, because flows that wait for a neighbor are decided again when it changes.
    this.#options.tables.neighbors.ask(vni, ip, nowMs);
    this.#options.enforce();
    const object = neighborObject(vni, ip);
    const waiting = this.#waiting.get(object);
    // An upcall is a view of the memory of its whole batch.
    const { token, key, head, lengthBytes, packetBytes } = upcall;
    const kept = { token, key: key.slice(), head: head.slice(), lengthBytes, packetBytes };
    if (waiting) return void waiting.upcalls.push(kept);
    this.#waiting.set(object, { neighbor, upcalls: [kept], asked: 1 });
    this.#ask(neighbor, nowMs);
  }

  /** The upcalls that wait for any of these objects are answered. */
  release(objects: readonly string[]): void {
    if (this.#waiting.size === 0) return;
    const upcalls = objects.flatMap((object) => {
      const waiting = this.#waiting.get(object)?.upcalls ?? [];
      this.#waiting.delete(object);
      return waiting;
    });
    this.#options.handle(upcalls);
  }

  /**
   * Asks again for frames that wait, and for neighbors that flows use and that have not been heard of for long. Call it
   * about once a second.
   */
  tick(nowMs: number): void {
    const { tables, originate, isConsulted } = this.#options;
    const again: NeighborName[] = [];
    const failed: NeighborName[] = [];
    for (const waiting of this.#waiting.values()) {
      (waiting.asked++ < MOST_ASKED ? again : failed).push(waiting.neighbor);
    }
    for (const neighbor of again) this.#ask(neighbor, nowMs);
    for (const neighbor of failed) this.#fail(neighbor, nowMs);
    const { ask, unanswered } = tables.neighbors.takeDue(nowMs, isConsulted);
    for (const neighbor of unanswered) this.#fail(neighbor, nowMs);
    for (const { vni, ip, mac } of ask) {
      const asked = mac && originate(neighborRequest(tables.topology, vni, ip, mac), { vni });
      if (!asked || asked.reason === 'no_destination') this.#ask({ vni, ip }, nowMs);
    }
  }

  /** Asks who has an address. Fails at once if nobody could have it. */
  #ask({ vni, ip }: NeighborName, nowMs: number): void {
    const request = neighborRequest(this.#options.tables.topology, vni, ip);
    if (this.#options.originate(request, { vni }).verdict !== 'forward') this.#fail({ vni, ip }, nowMs);
  }

  /** Nobody has answered. Waiting senders are told, even if the table has forgotten that it was asked for. */
  #fail({ vni, ip }: NeighborName, nowMs: number): void {
    this.#options.tables.neighbors.fail(vni, ip, nowMs);
    this.#options.enforce();
    this.release([neighborObject(vni, ip)]);
  }
}
