/**
 * The process of one hook, as the switch sees it: it is started, asked, and ended.
 *
 * It is a process, and not a thread of this one, because nobody trusts the text of a hook. Some of V8's
 * loops heed nobody who wants to end their thread, it takes more memory than a thread may have, and ends the whole process if it
 * gets none; and whoever breaks out of the hook's context has what its process has. That one is confined (`native/io/partner.h`), and can be killed at any time.
 */
import { join } from 'node:path';
import { endPartner, startPartner, type Partner } from '../addon/partner.ts';
import { WeftError } from '../error.ts';
import { packageRoot } from '../package.ts';
import { hookGroups, type HookAnswer } from '../table/hooks.ts';
import { hookAnswerOf, loadAnswerOf } from './answers.ts';
import { BUDGET_MS, Exchange, SLICE_MS } from './exchange.ts';

/** The code of the process: a bundle of its own. */
const PROGRAM = join(packageRoot, 'dist/hooks/program.js');
const FLAGS = [
  // In MiB. A partner that is confined has another limit, which concerns all of its memory.
  '--max-old-space-size=32',
  '--max-semi-space-size=2',
  // Code is not made of text, not even outside of the hook's context.
  '--disallow-code-generation-from-strings',
];

/** How long it may take until the hook begins to be loaded, and until it is. */
const BEGIN_MS = 30_000;
const LOAD_MS = 5000;
/** What the process says before it loads the hook. */
export const BEGUN = 'begun';

/** What the process is given. */
export interface HookProcessStart {
  /** The process that asks. */
  readonly parent: number;
  readonly source: string;
  /** How its text is called where places in it are told. */
  readonly file: string;
  readonly host: string;
}

export class HookProcess {
  readonly #partner: Partner;
  readonly #exchange: Exchange;
  /** How long it had run when that was looked at. */
  #ranMs = 0;

  private constructor(partner: Partner) {
    this.#partner = partner;
    this.#exchange = new Exchange(partner);
  }

  /**
   * Loads a hook.
   * @returns the process, and the name that the hook gives itself
   * @throws WeftError that says why it cannot be loaded; nothing is left then
   */
  static async start({
    source,
    file,
    host,
  }: Omit<HookProcessStart, 'parent'>): Promise<{ readonly process: HookProcess; readonly name: string }> {
    const start: HookProcessStart = { source, file, host, parent: process.pid };
    // The last word is for whoever looks at the processes of this host.
    const words = [process.execPath, ...FLAGS, PROGRAM, file] as const;
    const partner = startPartner(words, JSON.stringify(start), SLICE_MS);
    const started = new HookProcess(partner);
    try {
      const name = await started.#load(file);
      started.takeRunMs();
      return { process: started, name };
    } catch (error) {
      started.close();
      throw error;
    }
  }

  async #load(file: string): Promise<string> {
    const begun = await this.#exchange.next(BEGIN_MS);
    if (begun === undefined) throw new WeftError('system', `${file}: its process does not begin`);
    const message = begun === BEGUN ? await this.#exchange.next(LOAD_MS) : begun;
    if (message === undefined) {
      const why = `it is not loaded after ${LOAD_MS / 1000} s, or needs more memory than it may have`;
      throw new WeftError('invalid', `${file}: ${why}`);
    }
    const [kind, text, code] = loadAnswerOf(message) ?? ['failed', `${file}: what it says of its name is no answer`];
    if (kind === 'failed') throw new WeftError(code ?? 'invalid', text);
    return text;
  }

  /** Asks the hook, and waits. If it is unavailable afterwards, it is to be closed. */
  ask(question: string): HookAnswer {
    const outcome = this.#exchange.ask(question);
    switch (outcome.kind) {
      case 'answered':
        return hookAnswerOf(outcome.text);
      case 'too_long':
        return { kind: 'failed', why: 'what there is to say of the flow is too long', read: hookGroups };
      case 'too_slow':
        return { kind: 'unavailable', why: `it had no answer after ${BUDGET_MS} ms` };
      case 'ended':
        return {
          kind: 'unavailable',
          why: 'its process has ended, as one does that needs more memory than it may have',
        };
      default:
        return outcome satisfies never;
    }
  }

  /** How long it has run since this was asked before. */
  takeRunMs(): number {
    const ranMs = this.#exchange.ranMs() ?? this.#ranMs;
    const sinceMs = ranMs - this.#ranMs;
    this.#ranMs = ranMs;
    return sinceMs;
  }

  /** Ends the process, whatever it does. Called once. */
  close(): void {
    endPartner(this.#partner);
  }
}
