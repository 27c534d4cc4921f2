/**
 * Limits of connections (`connectionPool.tcp.maxConnections`): whether a backend has as many connections as it may.
 *
 * A record stays for a while after its connection is over, and such ones must not count. So of a backend that seems to be
 * full, it is known from then on which records it has, and those that are over are left out. To find them, all records are gone
 * through once, for all backends that seem to be full. Who looks at them does it only when the others have reached the
 * limit, and only at some of them, since there may be very many: the next connection looks at the next ones.
 */
import type { ProtocolTuple } from '../flow/connection.ts';
import { IP_TCP } from '../wire/ipv4.ts';
import type { PinnedBackend } from './backends.ts';
import { pickAmong, withoutFull, type BackendSelection, type Candidate, type Scope } from './balancer.ts';
import type { BalancingMethod } from './service.ts';

/** At how many records one new connection looks: takes some tens of microseconds. */
const MOST_LOOKED = 1024;

/** The records of connections. */
export interface LimitedConnections {
  /** Those to backends with these numbers. */
  pinned(pins: ReadonlySet<number>): readonly { readonly slot: number; readonly pin?: number | undefined }[];
  /** True if both sides have said that it is over. */
  isOverWithChoice(slot: number): boolean;
}

export class ConnectionLimits {
  #connections: LimitedConnections | undefined;
  /** By number of a backend that seemed to be full: the slots of its connections, some of which may be over. */
  readonly #slots = new Map<number, Set<number>>();

  /** Without them, all that were opened and not closed yet count. */
  watch(connections: LimitedConnections): void {
    this.#connections = connections;
  }

  opened(pin: number, slot: number): void {
    this.#slots.get(pin)?.add(slot);
  }

  closed(pin: number, slot: number): void {
    const slots = this.#slots.get(pin);
    slots?.delete(slot);
    if (slots?.size === 0) this.#slots.delete(pin);
  }

  /** True if it may have one more, as far as so many looks tell. */
  #hasRoom({ pin, connections }: PinnedBackend, most: number, looks: number): boolean {
    if (connections < most) return true;
    const slots = this.#slots.get(pin);
    if (!slots) return false;
    let left = Math.min(looks, slots.size);
    for (const slot of slots) {
      if (slots.size < most || left-- === 0) break;
      slots.delete(slot);
      // Behind the others.
      if (!this.#connections!.isOverWithChoice(slot)) slots.add(slot);
    }
    return slots.size < most;
  }

  /**
   * Who gets a connection if it should be `first`: another one if that has as many as it may. The selection says who was left
   * out. Undefined if all have.
   */
  choose(
    first: Candidate,
    scope: Scope,
    tuple: ProtocolTuple,
    method: BalancingMethod,
  ): { readonly candidate: Candidate; readonly selection: BackendSelection } | undefined {
    const { selection } = scope;
    const { port, spread, candidates } = selection;
    const most = port.protocol === IP_TCP ? spread.maxConnections : undefined;
    if (most === undefined || first.pinned.connections < most) return { candidate: first, selection };
    this.#find(candidates.filter(({ pinned }) => pinned.connections >= most));
    if (this.#hasRoom(first.pinned, most, MOST_LOOKED)) return { candidate: first, selection };
    const looks = Math.ceil(MOST_LOOKED / candidates.length);
    const open = candidates.filter(({ pinned }) => this.#hasRoom(pinned, most, looks));
    if (open.length === 0) return undefined;
    return { candidate: pickAmong(open, scope, tuple, method), selection: withoutFull(selection, open, most) };
  }

  /** Finds out which records these have, as far as that is not known. */
  #find(candidates: readonly Candidate[]): void {
    if (!this.#connections) return;
    const pins = new Set(candidates.map(({ pinned }) => pinned.pin).filter((pin) => !this.#slots.has(pin)));
    if (pins.size === 0) return;
    const found = this.#connections.pinned(pins);
    for (const pin of pins) this.#slots.set(pin, new Set());
    for (const { slot, pin } of found) this.#slots.get(pin!)!.add(slot);
  }
}
