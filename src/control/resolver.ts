/**
 * Frames that wait until weft knows who has an address: the upcalls of routed flows whose next hop is
 * not an endpoint that weft knows.
 *
 * They wait undecided, parked in the datapath like every miss, so they are bounded for each port and
 * stay in order. An address is asked for at once, then at every tick. If nobody has answered by then,
 * it counts as failed for a while.
 */
import type { Upcall } from '../datapath/datapath.ts';
import type { NeighborName } from '../pipeline/stage.ts';
import { neighborObject } from '../table/neighbor.ts';

/** How often an address is asked for, a second apart (RFC 4861 §10, MAX_MULTICAST_SOLICIT). */
const MOST_ASKED = 3;

interface Waiting {
  readonly neighbor: NeighborName;
  readonly upcalls: Upcall[];
  asked: number;
}

export class Resolver {
  readonly #waiting = new Map<string, Waiting>();

  /** True if this is the first that waits for this neighbor; then ask for it. */
  wait(neighbor: NeighborName, upcall: Upcall): boolean {
    const object = neighborObject(neighbor.vni, neighbor.ip);
    const waiting = this.#waiting.get(object);
    // An upcall is a view of the memory of its whole batch.
    const { token, key, head, lengthBytes, packetBytes } = upcall;
    const kept = { token, key: key.slice(), head: head.slice(), lengthBytes, packetBytes };
    if (waiting) waiting.upcalls.push(kept);
    else this.#waiting.set(object, { neighbor, upcalls: [kept], asked: 1 });
    return !waiting;
  }

  /** Returns the upcalls that wait for any of `objects`, and forgets them. */
  take(objects: readonly string[]): Upcall[] {
    if (this.#waiting.size === 0) return [];
    return objects.flatMap((object) => {
      const upcalls = this.#waiting.get(object)?.upcalls ?? [];
      this.#waiting.delete(object);
      return upcalls;
    });
  }

  /** Call it about once a second: returns whom to ask for again, and who has failed. */
  tick(): { readonly again: readonly NeighborName[]; readonly failed: readonly NeighborName[] } {
    const again: NeighborName[] = [];
    const failed: NeighborName[] = [];
    for (const waiting of this.#waiting.values()) {
      if (waiting.asked++ < MOST_ASKED) again.push(waiting.neighbor);
      else failed.push(waiting.neighbor);
    }
    return { again, failed };
  }
}
