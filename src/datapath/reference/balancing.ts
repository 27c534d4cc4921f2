/**
 * What the datapath has for balancing (flow/balancing.ts): the tables by which it opens connections, how many it has opened
 * by them, and which flows these take. native/balancing.h and native/balancing.cc do the same.
 */
import { isBalancingTable, type BalancingTable } from '../../flow/balancing.ts';
import type { FlowId } from '../../flow/types.ts';

/** Connections with a table, by their backend and by their table. */
export class BalancedCounts {
  readonly #to = new Map<number, number>();
  readonly #by = new Map<number, number>();

  /** @param change 1 if it begins, -1 if it ends @param table 0: it does not count */
  change(pin: number, table: number, change: 1 | -1): void {
    if (table === 0) return;
    for (const [counts, key] of [[this.#to, pin] as const, [this.#by, table] as const]) {
      const count = (counts.get(key) ?? 0) + change;
      if (count === 0) counts.delete(key);
      else counts.set(key, count);
    }
  }

  to(pin: number): number {
    return this.#to.get(pin) ?? 0;
  }

  by(table: number): number {
    return this.#by.get(table) ?? 0;
  }
}

export class ReferenceTables {
  readonly #tables = new Map<number, BalancingTable>();

  add(id: number, table: BalancingTable): void {
    if (id === 0 || !isBalancingTable(table)) throw new RangeError('a balancing table has an empty slot');
    this.#tables.set(id, table);
  }

  remove(id: number): void {
    this.#tables.delete(id);
  }

  get(id: number): BalancingTable | undefined {
    return this.#tables.get(id);
  }
}

/** The flows of connections with a client and a backend in common. */
export interface BalancedWay {
  /** The flow that balanced its connections. */
  readonly flow: FlowId;
  readonly pin: number;
  readonly replies: number;
  /** A connection whose flows are looked at. */
  slot: number;
  generation: number;
  /** The ids that were seen there last, by direction; 0: none yet. */
  readonly flows: [original: number, reply: number];
}

/** As many ways as native/balancing.h has. */
const SHIFT = 18;

export class BalancedWays {
  readonly #ways = new Map<number, BalancedWay>();

  /** The entry for connections that this flow has balanced. It may take the place of that of others. */
  of(flow: FlowId, pin: number, replies: number): BalancedWay {
    const at = (Math.imul(flow, 0x9e3779b1) ^ Math.imul(pin, 0x85ebca6b)) >>> SHIFT;
    const known = this.#ways.get(at);
    if (known?.flow === flow && known.pin === pin && known.replies === replies) return known;
    const way: BalancedWay = { flow, pin, replies, slot: 0, generation: 0, flows: [0, 0] };
    this.#ways.set(at, way);
    return way;
  }
}
