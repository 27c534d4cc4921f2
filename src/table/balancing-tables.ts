/**
 * The balancing tables that the datapath has (flow/balancing.ts), and what they were made of.
 *
 * A table is removed before anything else follows from a change of its service, so no connection is opened by one whose
 * backends may be gone. What it was made of is known as long as the datapath has connections that it chose, for
 * `weft why`; beyond a limit, the oldest is forgotten.
 */
import type { BalancedBackend, BalancingTable } from '../flow/balancing.ts';
import type { ConnectionStore } from '../flow/connection-store.ts';
import type { Vni } from '../flow/types.ts';
import { tableOf, type BackendSelection, type Candidate, type Scope } from './balancer.ts';
import { countOf, MOST_BACKENDS_KEPT, type KeptChoice } from './kept-choices.ts';

/** Where the tables go, and the quotas of the connections that they open. */
export interface Balancing extends Pick<BalancingTable, 'quota' | 'unprovenQuota'> {
  readonly store: Pick<ConnectionStore, 'addTable' | 'removeTable' | 'balancedTo' | 'balancedBy'>;
}

const LARGEST_ID = 2 ** 32 - 1;
/** Of how many removed tables one call of `expire` asks: takes well under a millisecond. */
const MOST_ASKED = 1024;

export class BalancingTables {
  #balancing: Balancing | undefined;
  readonly #most: number;
  readonly #selections = new Map<number, BackendSelection>();
  /** Ids of those that connections may still have, the oldest first. */
  readonly #removed = new Set<number>();
  /** Those that `expire` asks about next. */
  #asked = this.#removed.values();
  /** How many backends are named by what was removed. */
  #backends = 0;
  #lastId = 0;

  constructor(most = MOST_BACKENDS_KEPT) {
    this.#most = most;
  }

  /** Without it, there are no tables. */
  use(balancing: Balancing): void {
    this.#balancing = balancing;
  }

  /** Adds the table of a scope. @param client the network of its clients @returns its id; undefined: there are no tables */
  add(scope: Scope, client: Vni): number | undefined {
    if (!this.#balancing) return undefined;
    const { store, quota, unprovenQuota } = this.#balancing;
    const { selection } = scope;
    const { port, spread, candidates } = selection;
    do this.#lastId = this.#lastId === LARGEST_ID ? 1 : this.#lastId + 1;
    while (this.#selections.has(this.#lastId));
    store.addTable(this.#lastId, {
      byClient: spread.balancing === 'source-hash',
      firstPort: port.l4Port,
      ...{ quota, unprovenQuota },
      slots: candidates.length === 1 ? Uint16Array.of(0) : tableOf(scope).slots,
      backends: candidates.map((candidate) => backendOf(candidate, client)),
    });
    this.#selections.set(this.#lastId, selection);
    return this.#lastId;
  }

  /** Does nothing if it was removed before. */
  remove(id: number): void {
    const selection = this.#selections.get(id);
    if (!selection || this.#removed.has(id)) return;
    this.#balancing!.store.removeTable(id);
    this.#removed.add(id);
    this.#backends += countOf(selection);
    for (const oldest of this.#removed) {
      if (this.#backends <= this.#most) break;
      this.#forget(oldest);
    }
  }

  /** Forgets removed tables that no connection has any more. A call asks about MOST_ASKED at most, from where the last one ended. */
  expire(): void {
    for (let left = Math.min(MOST_ASKED, this.#removed.size); left > 0; left--) {
      const id = this.#nextRemoved();
      if (id !== undefined && this.#balancing!.store.balancedBy(id) === 0) this.#forget(id);
    }
  }

  #nextRemoved(): number | undefined {
    const { done, value } = this.#asked.next();
    if (!done) return value;
    this.#asked = this.#removed.values();
    return this.#asked.next().value;
  }

  /** Whom the datapath may choose by this table; undefined if it has none with this id. @param client the network of its clients */
  chosenBy(id: number, client: Vni): Pick<BalancingTable, 'firstPort' | 'backends'> | undefined {
    const selection = this.#removed.has(id) ? undefined : this.#selections.get(id);
    if (!selection) return undefined;
    return {
      firstPort: selection.port.l4Port,
      backends: selection.candidates.map((candidate) => backendOf(candidate, client)),
    };
  }

  /** How many connections the datapath has to this backend that may end without anybody being told. */
  connectionsTo(pin: number): number {
    return this.#balancing?.store.balancedTo(pin) ?? 0;
  }

  /** How that backend was chosen by this table; undefined if that is not known any more. */
  choiceOf(id: number, pin: number): KeptChoice | undefined {
    const selection = this.#selections.get(id);
    return selection && { selection, pin, by: selection.spread.balancing, route: undefined };
  }

  #forget(id: number): void {
    this.#backends -= countOf(this.#selections.get(id)!);
    this.#removed.delete(id);
    this.#selections.delete(id);
  }
}

function backendOf({ pinned, target }: Candidate, client: Vni): BalancedBackend {
  const { pin, address, replies } = pinned;
  return { pin, address, target, replies: replies === 'of_client' ? client : replies };
}
