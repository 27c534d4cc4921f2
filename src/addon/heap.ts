/**
 * Limits V8's heap, which would otherwise keep growing with the garbage of a flood as long as the machine has memory.
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { loadAddon } from './addon.ts';

/**
 * V8 collects early enough to stay below `bytes`, and ends the process if that does not help;
 * new objects are collected a megabyte at a time, by the thread that made them: waiting for helper threads that get no
 * processor takes longer than the work itself. Takes effect at once.
 */
export function limitHeap(bytes: number): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--no-parallel-scavenge');
  loadAddon().limitHeap(bytes);
}

/** A change of the heap that is worth a collection: at least so many bytes, and at least such a part of it. */
const CHANGE = { bytes: 8 * 1024 * 1024, part: 1 / 4 };
/** Flows that have gone, of more than twice as many. */
const FLOWS_GONE = 1000;

/**
 * Gives back what a flood leaves of V8's heap. V8 collects when more memory is asked for, and after
 * a flood nobody asks. V8 marks live objects beside the program, and moves them together at the
 * end, which takes the thread some tens of milliseconds. A collection is started whenever the heap
 * has changed much since the last one; so after it has shrunk there is another one, and while
 * nothing happens there is none.
 */
export class HeapTrimmer {
  #bytes = getHeapStatistics().total_heap_size;
  #flows = 0;

  /** Call it every few seconds. @param flows how many are cached */
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
