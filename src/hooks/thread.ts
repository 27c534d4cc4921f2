/** The thread of one hook, as the switch sees it: it is started, asked, and ended. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { WeftError } from '../error.ts';
import { packageRoot } from '../package.ts';
import { hookGroups, type HookAnswer } from '../table/hooks.ts';
import { hookAnswerOf, loadAnswerOf } from './answers.ts';
import type { CompiledHook } from './compile.ts';
import type { ContextOptions } from './context.ts';
import { BUDGET_MS, Exchange } from './exchange.ts';
import type { LoadAnswer } from './inside.ts';

/** The code of the thread: a bundle of its own. */
const CODE = join(packageRoot, 'dist/hooks/worker.js');

/** What one hook may have of memory: a heap of its own, and no buffers beside it. */
const LIMITS = { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4, stackSizeMb: 1 };
/** Nothing of how this process was started runs there, and nothing is printed. */
const ALONE = { execArgv: [], env: {}, stdout: true, stderr: true };
/** Of a hook that does something about how values become text. */
const NO_ANSWER: LoadAnswer = ['failed', 'what it says of its name is no answer', 0, 0];
/** How long a hook may take to be loaded, with its thread. */
const LOAD_MS = 5000;

export interface HookThreadStart extends ContextOptions {
  readonly memory: SharedArrayBuffer;
}

export interface HookThreadOptions {
  readonly host: string;
  /** Without it, loading takes as long as it takes. */
  readonly after?: ((delayMs: number, work: () => void) => () => void) | undefined;
  /** It has ended by itself. */
  readonly onLost: (why: string) => void;
}

export class HookThread {
  readonly #hook: CompiledHook;
  readonly #exchange = new Exchange();
  readonly #worker: Worker;
  #isClosed = false;

  /** Use `start`. */
  constructor(hook: CompiledHook, host: string) {
    this.#hook = hook;
    const { code, file } = hook;
    const workerData: HookThreadStart = { code, file, host, memory: this.#exchange.memory };
    this.#worker = new Worker(CODE, { workerData, resourceLimits: LIMITS, ...ALONE });
  }

  /**
   * Loads a hook.
   * @returns the thread, and the name that the hook gives itself
   * @throws WeftError('invalid') that says why it cannot be loaded; nothing is left then
   */
  static async start(
    hook: CompiledHook,
    { host, after, onLost }: HookThreadOptions,
  ): Promise<{ readonly thread: HookThread; readonly name: string }> {
    const thread = new HookThread(hook, host);
    const worker = thread.#worker;
    let isLoaded = false;
    let stop = (): void => {};
    try {
      const name = await new Promise<string>((resolve, reject) => {
        const fail = (why: string): void => reject(new WeftError('invalid', why));
        const lost = (why: string): void => {
          if (!isLoaded) return fail(`${hook.file}: ${why}`);
          if (!thread.#isClosed) onLost(why);
          thread.#isClosed = true;
        };
        worker.on('message', (message: unknown) => {
          const [kind, text, line = 0, column = 0] = loadAnswerOf(message) ?? NO_ANSWER;
          if (kind === 'loaded') resolve(text);
          else fail(`${hook.placeOf(line, column)}: ${text}`);
        });
        worker.on('error', (error) => lost(endText(error)));
        worker.on('exit', () => lost('its thread has ended'));
        stop = after?.(LOAD_MS, () => fail(`${hook.file}: it is not loaded after ${LOAD_MS / 1000} s`)) ?? stop;
      });
      isLoaded = true;
      worker.unref();
      return { thread, name };
    } catch (error) {
      thread.close();
      throw error;
    } finally {
      stop();
    }
  }

  /** Asks the hook, and waits. If it is unavailable afterwards, it is to be closed. */
  ask(question: string): HookAnswer {
    const outcome = this.#exchange.ask(question);
    switch (outcome.kind) {
      case 'answered':
        return hookAnswerOf(outcome.text, (line, column) => this.#hook.placeOf(line, column));
      case 'too_long':
        return { kind: 'failed', why: 'what there is to say of the flow is too long', read: hookGroups };
      case 'too_slow':
        return { kind: 'unavailable', why: `it had no answer after ${BUDGET_MS} ms` };
      case 'not_begun':
        return { kind: 'unavailable', why: 'its thread does not run' };
      default:
        return outcome satisfies never;
    }
  }

  /** Ends the thread, whatever it does. */
  close(): void {
    this.#isClosed = true;
    void this.#worker.terminate();
  }
}

function endText(error: unknown): string {
  if (!(error instanceof Error)) return 'its thread has failed';
  return (error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY'
    ? `it needs more memory than ${LIMITS.maxOldGenerationSizeMb} MiB`
    : error.message;
}
