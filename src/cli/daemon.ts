/**
 * What `weft up` runs, besides the command line. It is a bundle of its own, because forwarding waits for it to load
 * (load-daemon.ts).
 */
export { loadConfig } from '../config.ts';
export { openNativeDatapath } from '../datapath/native/native.ts';
export { createSwitch } from '../switch.ts';
export { runDaemon } from './run-daemon.ts';
