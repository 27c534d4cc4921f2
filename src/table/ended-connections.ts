/**
 * Connections that weft has ended, since their backend is gone, or since policies deny them now. That is in their records,
 * which outlive a crash, before their ends are told; and so that those are told whom the crash came before, or whose host is
 * down, it is in the records, too, whether all know.
 */
import {
  endVerdicts,
  INTERNAL,
  OUTSIDE,
  SEEN_RST,
  type ConnectionRecords,
  type ConnectionTuples,
  type Half,
} from '../flow/connection.ts';
import type { ConnectionStore } from '../flow/connection-store.ts';
import { sameBytes } from '../flow/types.ts';
import { hasPorts, IP_TCP } from '../wire/ipv4.ts';
import type { PolicyDirection } from './policy/policy.ts';

/** One that goes to a backend, with what each direction has sent. */
export interface PinnedConnection extends ConnectionTuples {
  readonly slot: number;
  readonly halves: readonly [original: Half, reply: Half];
}

export function pinnedAt(records: ConnectionRecords, slot: number): PinnedConnection {
  return { ...records.read(slot), slot, halves: [records.half(slot, false), records.half(slot, true)] };
}

export class EndedConnections {
  readonly #records: ConnectionRecords;
  readonly #store: Pick<ConnectionStore, 'ended' | 'noteTold'>;
  /** Slots, from before a crash. */
  readonly #untold: number[] = [];

  constructor(store: Pick<ConnectionStore, 'records' | 'ended' | 'noteTold'>) {
    this.#records = store.records;
    this.#store = store;
  }

  get size(): number {
    return this.#store.ended;
  }

  has(slot: number): boolean {
    return this.#records.kind(slot) === 'ended';
  }

  /**
   * Notes that its ends know: the record looks as if the backend had reset the connection. Does nothing if it has not ended.
   * @param generation of one that was only tracked: another one may be in its slot by now
   */
  told(slot: number, generation = this.#records.generation(slot)): void {
    this.#store.noteTold(slot, generation);
  }

  /** The direction for which policies deny it; undefined if it has not ended because of that. */
  deniedBy(slot: number): PolicyDirection | undefined {
    const verdict = this.has(slot) ? this.#records.verdict(slot) : endVerdicts.other;
    if (verdict === endVerdicts.other) return undefined;
    return verdict === endVerdicts.denied_egress ? 'egress' : 'ingress';
  }

  /** Looks at a record from before a crash. */
  recover(slot: number): void {
    if (this.#isUntold(slot)) this.#untold.push(slot);
  }

  /** Those from before a crash whose ends may not know, at most `limit`. Each is returned once. */
  untold(limit = Infinity): readonly PinnedConnection[] {
    const found: PinnedConnection[] = [];
    while (this.#untold.length > 0 && found.length < limit) {
      const slot = this.#untold.pop()!;
      if (this.#isUntold(slot)) found.push(pinnedAt(this.#records, slot));
    }
    return found;
  }

  #isUntold(slot: number): boolean {
    if (!this.has(slot) || this.deniedBy(slot) !== undefined) return false;
    return (this.#records.half(slot, true).seen & SEEN_RST) === 0;
  }
}

/** True if it has ended and was only tracked: it counted for a port, and for no address. */
export function wasTracked({ kind, places, via, original, translated, pin }: ConnectionTuples): boolean {
  if (kind !== 'ended' || via || pin !== undefined || places.includes(OUTSIDE)) return false;
  return original.sourcePort === translated.sourcePort && sameBytes(original.destination, translated.destination);
}

/**
 * True if what its ends send after it has ended must not be taken for the beginning of another one: segments, and answers to
 * datagrams. What comes from outside begins none by itself.
 */
export function isRemembered({ protocol, places }: ConnectionTuples): boolean {
  if (places.includes(INTERNAL)) return false;
  return protocol === IP_TCP || (hasPorts(protocol) && !places.includes(OUTSIDE));
}
