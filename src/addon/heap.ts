/** V8's heap, which otherwise takes what garbage a flood makes for as long as the machine has memory. */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { loadAddon } from './addon.ts';

/**
 * V8 collects in time to stay below `bytes`, and ends the process where that does not
 * help; what is new is collected a megabyte at a time. In force from now on.
 */
export function limitHeap(bytes: number): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  loadAddon().limitHeap(bytes);
}

/** A change of the heap that is worth a collection: so many bytes, and such a part of it. */
const CHANGE = { bytes: 8 * 1024 * 1024, part: 1 / 4 };
/** Flows that have gone, of more than twice as many. */
const FLOWS_GONE = 1000;

/**
 * Gives back what a flood leaves of V8's heap. V8 collects when more is asked for, and
 * after a flood nobody asks. V8 marks what is live beside the program, and moves it together at
 * the end, which takes some tens of milliseconds of the thread. There is a collection
 * whenever the heap has changed much since the last one, so where it has shrunk there is
 * another, and none while nothing happens.
 */
export class HeapTrimmer {
  #bytes = getHeapStatistics().total_heap_size;
  #flows = 0;

  /** To be called every few seconds. @param flows that are cached */
  look(flows: number): void {
    const bytes = getHeapStatistics().total_heap_size;
    this.#flows = Math.max(this.#flows, flows);
    const hasChanged = Math.abs(bytes - this.#bytes) >= Math.max(CHANGE.bytes, CHANGE.part * this.#bytes);
    if (!hasChanged && flows > this.#flows / 2 - FLOWS_GONE) return;
    this.#bytes = bytes;
    this.#flows = flows;
    loadAddon().trimHeap();
  }
}
