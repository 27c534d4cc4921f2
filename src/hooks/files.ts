/**
 * Hooks in files of this host: they are read again and again, and loaded again when they have changed. Their directories are not
 * watched, since a file may also be another one by a symbolic link anywhere on its path.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { HookKeeper, WantedHook } from './keeper.ts';
import type { ReadyHooks } from './ready.ts';

/**
 * Begins to load those that can be read. The others are told when they are to be put into force.
 * @param paths absolute @returns false if all of them were loaded before
 */
export async function loadFiles(paths: readonly string[], ready: Pick<ReadyHooks, 'load'>): Promise<boolean> {
  let isAnyNew = false;
  for (const path of paths) {
    const source = await readFile(path, 'utf8').catch(() => undefined);
    if (source !== undefined && ready.load({ source, file: basename(path) })) isAnyNew = true;
  }
  return isAnyNew;
}

export class HookFiles {
  readonly #paths: readonly string[];
  readonly #keeper: Pick<HookKeeper, 'set'>;
  /** What was read the last time; undefined if it could not be read. */
  readonly #texts = new Map<string, string | undefined>();
  #isLooking = false;

  /** @param paths absolute */
  constructor(paths: readonly string[], keeper: Pick<HookKeeper, 'set'>) {
    this.#paths = paths;
    this.#keeper = keeper;
  }

  /** Called at the start, and then about once a second. Returns as `HookKeeper.set` does. */
  async look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const changed = await Promise.all(this.#paths.map((path) => this.#changeOf(path)));
    const all = changed.flatMap((wanted, at) => (wanted ? [[this.#paths[at]!, wanted] as const] : []));
    if (all.length > 0) await this.#keeper.set(all);
    this.#isLooking = false;
  }

  /** Undefined if it is as it was. */
  async #changeOf(path: string): Promise<WantedHook | undefined> {
    let source: string | undefined;
    let why: string | undefined;
    try {
      source = await readFile(path, 'utf8');
    } catch (error) {
      why = `${path} cannot be read: ${(error as Error).message}`;
    }
    if (this.#texts.has(path) && this.#texts.get(path) === source) return undefined;
    this.#texts.set(path, source);
    return { name: undefined, file: basename(path), source, onError: 'deny', ...(why !== undefined && { why }) };
  }
}
