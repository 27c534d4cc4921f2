/** Hooks in files of this host: they are read again whenever they have changed. */
import { readFileSync, watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { HookKeeper } from './keeper.ts';

export class HookFiles {
  readonly #paths: readonly string[];
  readonly #keeper: Pick<HookKeeper, 'set'>;
  readonly #texts = new Map<string, string | undefined>();
  readonly #watchers: FSWatcher[] = [];

  /** @param paths absolute */
  constructor(paths: readonly string[], keeper: Pick<HookKeeper, 'set'>) {
    this.#paths = paths;
    this.#keeper = keeper;
  }

  /** Returns when they are in force, or cannot be. */
  async start(): Promise<void> {
    for (const path of this.#paths) {
      const file = basename(path);
      // Editors put another file into its place, so it is the directory that is watched.
      const watcher = watch(dirname(path), { persistent: false }, (_, name) => {
        if (name === null || name === file) void this.#follow(path);
      });
      watcher.on('error', () => {});
      this.#watchers.push(watcher);
      await this.#follow(path);
    }
  }

  close(): void {
    for (const watcher of this.#watchers) watcher.close();
  }

  async #follow(path: string): Promise<void> {
    const file = basename(path);
    let source: string | undefined;
    let why: string | undefined;
    try {
      source = readFileSync(path, 'utf8');
    } catch (error) {
      why = `${path} cannot be read: ${(error as Error).message}`;
    }
    if (this.#texts.has(path) && this.#texts.get(path) === source) return;
    this.#texts.set(path, source);
    await this.#keeper.set(path, { name: undefined, file, source, onError: 'deny', ...(why !== undefined && { why }) });
  }
}
