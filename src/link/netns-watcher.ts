/**
 * Tells when a network namespace is gone, that is, when no path leads to it any more.
 *
 * A name that is deleted from a directory is noticed at once. Whatever causes no directory
 * event (an unmount, the end of a process) is found by polling: LOOKS namespaces every
 * POLL_MS, so that many cost no more than a few. If a path is gone but the namespace lives on
 * (under another name, or with another process in it), the watcher follows it there.
 * Nothing is held open, so nothing is kept alive.
 */
import { watch, type FSWatcher } from 'node:fs';
import { dirname, join } from 'node:path';
import { isSameNetns, type NetnsRef } from './netns.ts';
import { findNetns, netnsId } from './netns-lookup.ts';

const POLL_MS = 250;
/** Namespaces that are looked at in one poll. */
const LOOKS = 100;

/** `setInterval`, or a replacement for tests. */
export type IntervalScheduler = (callback: () => void, periodMs: number) => { unref(): unknown; close(): unknown };

interface Watched {
  /** As it was last found. */
  ref: NetnsRef;
  readonly onGone: () => void;
  readonly onMoved: (ref: NetnsRef) => void;
}

interface Directory {
  watcher: FSWatcher | undefined;
  /** How many paths in it are watched. */
  paths: number;
}

export class NetnsWatcher {
  /** By the object given to `watch`; the one that has not been looked at for longest comes first. */
  readonly #watched = new Map<NetnsRef, Watched>();
  readonly #byPath = new Map<string, Set<NetnsRef>>();
  readonly #directories = new Map<string, Directory>();
  readonly #interval: ReturnType<IntervalScheduler>;
  /** Paths for which a directory event came. */
  readonly #told = new Set<string>();

  constructor(schedule: IntervalScheduler) {
    this.#interval = schedule(() => this.#lookAround(), POLL_MS);
    this.#interval.unref();
  }

  /**
   * Calls `onGone` once, when no path leads to the namespace any more, and `onMoved` with the new path when another
   * path still does; never from within `watch`. Up to 200 namespaces are reported within 500 ms, whatever ended them.
   */
  watch(ref: NetnsRef, onGone: () => void, onMoved: (ref: NetnsRef) => void = () => {}): void {
    const watched = { ref, onGone, onMoved };
    this.#watched.set(ref, watched);
    this.#enter(ref, watched);
  }

  /** `ref` is the same object that was given to `watch`. */
  unwatch(ref: NetnsRef): void {
    const watched = this.#watched.get(ref);
    if (watched) this.#leave(ref, watched);
    this.#watched.delete(ref);
  }

  close(): void {
    this.#interval.close();
    for (const ref of [...this.#watched.keys()]) this.unwatch(ref);
  }

  #lookAround(): void {
    this.#openDirectories();
    const next = [...this.#watched.keys()].slice(0, LOOKS);
    for (const ref of next) {
      const watched = this.#watched.get(ref)!;
      this.#watched.delete(ref);
      this.#watched.set(ref, watched);
    }
    this.#look(next);
  }

  #look(refs: readonly NetnsRef[]): void {
    const lost = refs.filter((ref) => this.#watched.has(ref) && !isSameNetns(this.#watched.get(ref)!.ref));
    if (lost.length === 0) return;
    const paths = findNetns(lost);
    for (const ref of lost) {
      const watched = this.#watched.get(ref);
      if (!watched) continue;
      const path = paths.get(netnsId(ref));
      this.#leave(ref, watched);
      if (path === undefined) {
        this.#watched.delete(ref);
        watched.onGone();
        continue;
      }
      watched.ref = { ...ref, path };
      this.#enter(ref, watched);
      watched.onMoved(watched.ref);
    }
  }

  #enter(ref: NetnsRef, { ref: { path } }: Watched): void {
    const refs = this.#byPath.get(path);
    if (refs) refs.add(ref);
    else this.#byPath.set(path, new Set([ref]));
    if (path.startsWith('/proc/')) return;
    const name = dirname(path);
    const directory = this.#directories.get(name);
    if (directory) directory.paths++;
    else this.#directories.set(name, { watcher: this.#openDirectory(name), paths: 1 });
  }

  #leave(ref: NetnsRef, { ref: { path } }: Watched): void {
    const refs = this.#byPath.get(path);
    refs?.delete(ref);
    if (refs?.size === 0) this.#byPath.delete(path);
    const directory = this.#directories.get(dirname(path));
    if (!directory || --directory.paths > 0) return;
    directory.watcher?.close();
    this.#directories.delete(dirname(path));
  }

  /** Undefined if there is no such directory, or no inotify watch is left; the next poll tries again. */
  #openDirectory(name: string): FSWatcher | undefined {
    try {
      const watcher = watch(name, { persistent: false }, (_, entry) => {
        if (entry !== null) this.#tell(join(name, entry));
      });
      watcher.on('error', () => {
        watcher.close();
        const directory = this.#directories.get(name);
        if (directory?.watcher === watcher) directory.watcher = undefined;
      });
      return watcher;
    } catch {
      return undefined;
    }
  }

  #openDirectories(): void {
    for (const [name, directory] of this.#directories) directory.watcher ??= this.#openDirectory(name);
  }

  /** Several that go at once are looked at together. */
  #tell(path: string): void {
    if (!this.#byPath.has(path)) return;
    if (this.#told.size === 0) {
      setImmediate(() => {
        const refs = [...this.#told].flatMap((told) => [...(this.#byPath.get(told) ?? [])]);
        this.#told.clear();
        this.#look(refs);
      });
    }
    this.#told.add(path);
  }
}
