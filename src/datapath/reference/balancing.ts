/**
 * What the datapath has for balancing (flow/balancing.ts): the tables by which it opens connections, how many it has opened
 * by them, and which flows these take. native/balancing.h and native/balancing.cc do the same.
 */
import { isBalancingTable, type BalancingTable } from '../../flow/balancing.ts';
import type { ConnectionRecords } from '../../flow/connection.ts';

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
  readonly table: number;
  readonly owner: number;
  readonly pin: number;
  /** Protocol and port. */
  readonly service: number;
  /** The ids that were seen last, by direction; 0: none yet. */
  readonly flows: [original: number, reply: number];
}

/** As many ways as native/balancing.h has. */
const SHIFT = 18;

/** native/balancing.h says what they are for. */
export class BalancedWays {
  readonly #records: ConnectionRecords;
  readonly #ways = new Map<number, BalancedWay>();

  constructor(records: ConnectionRecords) {
    this.#records = records;
  }

  /** The entry for connections like this one; undefined if no balancing table chose it. It may take the place of that of others. */
  of(slot: number): BalancedWay | undefined {
    const records = this.#records;
    const [table, owner, pin] = [records.table(slot), records.owner(slot), records.pin(slot)];
    if (table === 0) return undefined;
    const service = (records.protocol(slot) << 16) | records.read(slot).original.destinationPort;
    const [ofTable, ofPin] = [Math.imul(table, 0x9e3779b1), Math.imul(pin, 0x85ebca6b)];
    const at = (ofTable ^ ofPin ^ Math.imul(owner, 0xc2b2ae35) ^ Math.imul(service, 0x27d4eb2f)) >>> SHIFT;
    const known = this.#ways.get(at);
    const isIts = known?.table === table && known.owner === owner && known.pin === pin && known.service === service;
    if (isIts) return known;
    const way: BalancedWay = { table, owner, pin, service, flows: [0, 0] };
    this.#ways.set(at, way);
    return way;
  }

  /** It was decided about a packet of this connection: others of its kind take the flow of that direction, too. */
  note(slot: number, reply: boolean): void {
    const way = this.of(slot);
    const flow = this.#records.flow(slot, reply);
    if (way && flow !== 0) way.flows[Number(reply)] = flow;
  }
}
