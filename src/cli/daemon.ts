/**
 * What `weft up` runs, besides the command line. It is a bundle of its own, because forwarding waits for it to load
 * (load-daemon.ts).
 */
export { openApi } from '../api/server.ts';
export { loadConfig } from '../config.ts';
export { HeapTrimmer, limitHeap } from '../addon/heap.ts';
export { openNativeDatapath } from '../datapath/native/native.ts';
export { keepCapabilities } from '../addon/privileges.ts';
export { heapBytesOf, memoryBytes } from '../memory.ts';
export { createSwitch } from '../switch.ts';
export { openLogger } from './logger.ts';
