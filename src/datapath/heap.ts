/** V8's heap, which otherwise takes what garbage a flood makes for as long as the machine has memory. */
import { setFlagsFromString } from 'node:v8';
import { loadAddon } from './binding.ts';

/**
 * V8 collects in time to stay below `bytes`, and ends the process where that does not
 * help; what is new is collected a megabyte at a time. In force from now on.
 */
export function limitHeap(bytes: number): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  loadAddon().limitHeap(bytes);
}
