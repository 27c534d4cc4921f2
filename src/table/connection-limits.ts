/**
 * Limits of connections (`connectionPool.tcp.maxConnections`): whether a backend has as many connections as it may.
 *
 * A record stays for a while after its connection is over, and such ones must not count. So of a backend that seems to be
 * full, it is known from then on which records it has, and those that are over are left out. Who looks at them does it
 * only when the others have reached the limit.
 */
import type { PinnedBackend } from './backends.ts';

/** The records of connections. */
export interface LimitedConnections {
  /** Those to backends with these numbers. */
  pinned(pins: ReadonlySet<number>): readonly { readonly slot: number }[];
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

  /** True if it may have one more. */
  hasRoom({ pin, connections }: PinnedBackend, most: number): boolean {
    if (connections < most) return true;
    const slots = this.#slotsOf(pin);
    if (!slots) return false;
    if (slots.size < most) return true;
    for (const slot of slots) if (this.#connections!.isOverWithChoice(slot)) slots.delete(slot);
    return slots.size < most;
  }

  #slotsOf(pin: number): Set<number> | undefined {
    const known = this.#slots.get(pin);
    if (known || !this.#connections) return known;
    const slots = new Set(this.#connections.pinned(new Set([pin])).map(({ slot }) => slot));
    this.#slots.set(pin, slots);
    return slots;
  }
}
