/**
 * The table as it was loaded last, in a file. After a crash, a start waits for as little as possible before anything passes:
 *
 *   in force   nothing has changed any nftables since weft last saw its table there: it is there still
 *   ahead      otherwise the kept table is loaded while a start reads what is declared: mostly it is today's, too
 *
 * Whoever has the interface open while nobody reads from it may load what was in force when it was last read from.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { rulesetGeneration } from '../addon/netns.ts';
import { loadRules } from '../link/nft.ts';

/** A longer table is not kept: it would be written again with each change. */
const MOST_LENGTH = 1 << 16;

/** A table that is in force. */
export interface RulesInForce {
  /** The kernel's number of the last change of nftables when the table was seen. */
  readonly generation: number;
  /** The kernel's numbers of its rules. */
  readonly rules: readonly number[];
}

interface Ahead {
  readonly text: string;
  /** The kernel's numbers of the rules; undefined if they could not be loaded. */
  readonly loading: Promise<readonly number[] | undefined>;
}

export class KeptRules {
  readonly #path: string;
  #ahead: Ahead | undefined;
  /** What the file has. */
  #kept: string | undefined;

  /** @param path the file, mode 0600 */
  constructor(path: string) {
    this.#path = path;
  }

  /** Begins to load what is kept, unless it is in force. Call it before anything else loads rules. */
  loadAhead(): void {
    try {
      this.#kept = readFileSync(this.#path, 'utf8');
    } catch {
      return; // Nothing is kept.
    }
    const { text, inForce } = read(this.#kept);
    const isInForce = inForce !== undefined && inForce.generation === rulesetGeneration();
    const loading = isInForce ? Promise.resolve(inForce.rules) : loadRules(text).catch(() => undefined);
    this.#ahead = { text, loading };
  }

  /** Waits until nothing is being loaded ahead, and forgets that it was. @returns what it was */
  async settled(): Promise<{ readonly text: string; readonly rules: readonly number[] | undefined } | undefined> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    return ahead && { text: ahead.text, rules: await ahead.loading };
  }

  /** Loads a whole table, unless just that is in force. @returns the kernel's numbers of its rules @throws WeftError */
  async load(text: string): Promise<readonly number[]> {
    const ahead = await this.settled();
    return (ahead?.text === text && ahead.rules) || loadRules(text);
  }

  /**
   * Keeps a table. A file that cannot be written is no failure: the next start waits a little longer.
   * @param inForce undefined if it is not known to be in force
   */
  keep(text: string, inForce: RulesInForce | undefined): void {
    const kept = write(text, inForce);
    if (kept === this.#kept) return;
    try {
      if (text.length > MOST_LENGTH) return this.forget();
      writeFileSync(this.#path, kept, { mode: 0o600 });
      this.#kept = kept;
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

/** The first line is a comment for nft. */
function write(text: string, inForce: RulesInForce | undefined): string {
  return inForce ? `# generation ${inForce.generation}, rules ${inForce.rules.join(' ')}\n${text}` : text;
}

function read(kept: string): { readonly text: string; readonly inForce?: RulesInForce } {
  const [line, generation, rules] = /^# generation (\d+), rules ([\d ]+)\n/.exec(kept) ?? [];
  if (line === undefined) return { text: kept };
  const inForce = { generation: Number(generation), rules: rules!.split(' ').map(Number) };
  return { text: kept.slice(line.length), inForce };
}
