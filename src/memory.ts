/** How much memory the daemon may use, and what it is used for. */
import { totalmem } from 'node:os';

const MIB = 1024 * 1024;
/** Bytes of V8's heap for each cached flow: generous, so that there is room for garbage. */
const HEAP_BYTES_PER_FLOW = 1024;
const MOST_FLOWS = 200_000;

/** The limit of the control group (version 1 or 2) if there is one, otherwise the memory of the machine. */
export function memoryBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/**
 * How much V8 may have for long-lived objects. The rest is for memory outside of V8: flows and frames
 * of the datapath, connections, code. There is always room for `flows` cached flows.
 */
export function heapBytesOf(memory: number, flows = 0): number {
  const bytes = Math.min(Math.max(Math.floor((memory * 3) / 8), 64 * MIB), 1024 * MIB);
  return Math.max(bytes, flows * HEAP_BYTES_PER_FLOW);
}

/** The most cached flows, unless the configuration says otherwise. */
export function flowCapOf(memory: number): number {
  return Math.min(MOST_FLOWS, Math.floor(heapBytesOf(memory) / HEAP_BYTES_PER_FLOW));
}
