/** How much memory the daemon may have, and what of it goes where. */
import { totalmem } from 'node:os';

const MIB = 1024 * 1024;
/** Of V8's heap for each cached flow, generously: what is not its own leaves room for garbage. */
const HEAP_BYTES_PER_FLOW = 1024;
const MOST_FLOWS = 200_000;

/** The control group's limit (version 1 or 2), where there is one, or what the machine has. */
export function memoryBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/**
 * What V8 may have for objects that last. The rest is for what is not V8's: flows and
 * frames of the datapath, connections, code. So many flows as an operator wants have room.
 */
export function heapBytesOf(memory: number, flows = 0): number {
  const bytes = Math.min(Math.max(Math.floor((memory * 3) / 8), 64 * MIB), 1024 * MIB);
  return Math.max(bytes, flows * HEAP_BYTES_PER_FLOW);
}

/** Flows that may be cached, unless the configuration says otherwise. */
export function flowCapOf(memory: number): number {
  return Math.min(MOST_FLOWS, Math.floor(heapBytesOf(memory) / HEAP_BYTES_PER_FLOW));
}
