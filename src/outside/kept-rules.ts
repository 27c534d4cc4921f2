/**
 * The table as it was loaded last, in a file. After a crash, a start loads it again while it still reads what is declared: mostly
 * that is the same, and then nothing is left to wait for when everything else is in force.
 *
 * Whoever has the interface open while nobody reads from it may load what was in force when it was last read from.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { loadRules } from '../link/nft.ts';

/** A longer table is not kept: it would be written again with each change. */
const MOST_LENGTH = 1 << 16;

interface Ahead {
  readonly text: string;
  /** The kernel's numbers of the rules; undefined if they could not be loaded. */
  readonly loading: Promise<readonly number[] | undefined>;
}

export class KeptRules {
  readonly #path: string;
  #ahead: Ahead | undefined;
  #kept: string | undefined;

  /** @param path the file, mode 0600 */
  constructor(path: string) {
    this.#path = path;
  }

  /** Begins to load what is kept. Call it at the start, before anything else. */
  loadAhead(): void {
    try {
      const text = readFileSync(this.#path, 'utf8');
      this.#kept = text;
      this.#ahead = { text, loading: loadRules(text).catch(() => undefined) };
    } catch {
      // Nothing is kept.
    }
  }

  /** Waits until nothing is being loaded ahead, and forgets that it was. @returns what it was */
  async settled(): Promise<{ readonly text: string; readonly rules: readonly number[] | undefined } | undefined> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    return ahead && { text: ahead.text, rules: await ahead.loading };
  }

  /** Loads a whole table, unless just that was loaded ahead. @returns the kernel's numbers of its rules @throws WeftError */
  async load(text: string): Promise<readonly number[]> {
    const ahead = await this.settled();
    return (ahead?.text === text && ahead.rules) || loadRules(text);
  }

  /** Keeps a table that is in force. A file that cannot be written is no failure: the next start waits a little longer. */
  keep(text: string): void {
    if (text === this.#kept) return;
    try {
      if (text.length > MOST_LENGTH) return this.forget();
      writeFileSync(this.#path, text, { mode: 0o600 });
      this.#kept = text;
    } catch {
      this.forget();
    }
  }

  /** Removes the file. If it stays, the next start loads rules that it replaces before anything passes. */
  forget(): void {
    this.#kept = undefined;
    try {
      rmSync(this.#path, { force: true });
    } catch {
      // The directory may be read-only, for example. The outside does not depend on it.
    }
  }
}
