/**
 * Connections that weft has ended, since their backend is gone. That is in their records, which outlive a crash, before
 * their clients are told; and so that those are told whom the crash came before, it is in the records, too, who knows.
 */
import { SEEN_RST, type ConnectionRecords, type ConnectionTuples, type Half } from '../flow/connection.ts';

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
  /** Slots, from before a crash. */
  readonly #untold: number[] = [];

  constructor(records: ConnectionRecords) {
    this.#records = records;
  }

  has(slot: number): boolean {
    return this.#records.kind(slot) === 'ended';
  }

  /** Notes that the client knows: the record looks as if the backend had reset the connection. Does nothing if it has not ended. */
  told(slot: number): void {
    if (!this.has(slot)) return;
    const half = this.#records.half(slot, true);
    this.#records.writeHalf(slot, true, { ...half, seen: half.seen | SEEN_RST });
  }

  /** Looks at a record from before a crash. */
  recover(slot: number): void {
    if (this.#isUntold(slot)) this.#untold.push(slot);
  }

  /** Those from before a crash whose clients may not know, at most `limit`. Each is returned once. */
  untold(limit = Infinity): readonly PinnedConnection[] {
    const found: PinnedConnection[] = [];
    while (this.#untold.length > 0 && found.length < limit) {
      const slot = this.#untold.pop()!;
      if (this.#isUntold(slot)) found.push(pinnedAt(this.#records, slot));
    }
    return found;
  }

  #isUntold(slot: number): boolean {
    return this.has(slot) && (this.#records.half(slot, true).seen & SEEN_RST) === 0;
  }
}
