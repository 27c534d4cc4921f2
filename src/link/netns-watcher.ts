/**
 * Tells when a network namespace is gone: its path leads nowhere, or to another one.
 *
 * All paths are looked at every POLL_MS, which also sees what no directory
 * event tells (an unmount, the end of a process). An event in a directory of
 * names makes it look at once. Nothing is held open, so nothing is kept alive.
 */
import { watch, type FSWatcher } from 'node:fs';
import { dirname } from 'node:path';
import { isSameNetns, type NetnsRef } from './netns.ts';

const POLL_MS = 250;

/** `setInterval`, or a test's own. */
export type IntervalScheduler = (callback: () => void, periodMs: number) => { unref(): unknown; close(): unknown };

export class NetnsWatcher {
  readonly #watched = new Map<NetnsRef, () => void>();
  readonly #directories = new Map<string, FSWatcher>();
  readonly #interval: ReturnType<IntervalScheduler>;

  constructor(schedule: IntervalScheduler) {
    this.#interval = schedule(() => this.#look(), POLL_MS);
    this.#interval.unref();
  }

  /** Calls `onGone` once, within 500 ms of the namespace's going; never from within `watch`. */
  watch(ref: NetnsRef, onGone: () => void): void {
    this.#watched.set(ref, onGone);
    this.#watchDirectories();
  }

  /** `ref` is the very object that was given to `watch`. */
  unwatch(ref: NetnsRef): void {
    this.#watched.delete(ref);
    this.#watchDirectories();
  }

  close(): void {
    this.#interval.close();
    this.#watched.clear();
    this.#watchDirectories();
  }

  #look(): void {
    const gone = [...this.#watched].filter(([ref]) => !isSameNetns(ref));
    for (const [ref, onGone] of gone) if (this.#watched.delete(ref)) onGone();
    this.#watchDirectories();
  }

  /** One watch for each directory in use; without one the interval does it alone. */
  #watchDirectories(): void {
    const wanted = new Set<string>();
    for (const { path } of this.#watched.keys()) if (!path.startsWith('/proc/')) wanted.add(dirname(path));
    for (const [directory, watcher] of this.#directories) {
      if (wanted.has(directory)) continue;
      watcher.close();
      this.#directories.delete(directory);
    }
    for (const directory of wanted) {
      if (this.#directories.has(directory)) continue;
      try {
        const watcher = watch(directory, { persistent: false }, () => this.#look());
        watcher.on('error', () => {
          watcher.close();
          this.#directories.delete(directory);
        });
        this.#directories.set(directory, watcher);
      } catch {
        // No such directory, or no inotify watch left: tried again at the next look.
      }
    }
  }
}
