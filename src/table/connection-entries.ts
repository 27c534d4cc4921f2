/** What is shown of connections, read from records that threads of the datapath go on writing. */
import type { ConnectionRecords, ConnectionState, ConnectionTuples } from '../flow/connection.ts';
import { connectionTimeoutMs, OVER } from '../flow/connection-state.ts';

export interface ConnectionEntry extends ConnectionTuples {
  readonly slot: number;
  readonly state: ConnectionState;
  /** The cached flow that packets of its original direction take; 0 means none. */
  readonly flow: number;
  readonly packets: number;
  readonly replyPackets: number;
  readonly bytes: number;
  readonly replyBytes: number;
  readonly lastSeenMs: number;
  /** When it ends unless it is used, by the same clock. */
  readonly expiresAtMs: number;
}

/** The connection in that slot; undefined if there is none. */
export function entryAt(records: ConnectionRecords, slot: number): ConnectionEntry | undefined {
  if (slot >= records.ready) return undefined;
  const generation = records.generation(slot);
  if (!isUsed(generation)) return undefined;
  const connection = records.read(slot);
  const [original, reply] = [records.half(slot, false), records.half(slot, true)];
  const lastSeenMs = records.lastSeenMs(slot);
  const entry = {
    ...connection,
    slot,
    state: records.state(slot),
    flow: records.flow(slot, false),
    packets: original.packets,
    replyPackets: reply.packets,
    bytes: original.bytes,
    replyBytes: reply.bytes,
    lastSeenMs,
    expiresAtMs: lastSeenMs + connectionTimeoutMs(records, slot),
  };
  // While it was read, a thread of the datapath may have closed it and opened another one there.
  return records.generation(slot) === generation ? entry : undefined;
}

/** The number of the backend of the connection in that slot; 0 if there is none, or if both sides have said that it is over. */
export function openPinAt(records: ConnectionRecords, slot: number): number {
  if (!isUsed(records.generation(slot))) return 0;
  const pin = records.pin(slot);
  return pin !== 0 && OVER.has(records.state(slot)) ? 0 : pin;
}

function isUsed(generation: number): boolean {
  return generation !== 0 && generation % 2 === 0;
}
