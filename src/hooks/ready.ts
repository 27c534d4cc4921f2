/**
 * Hooks that are loaded before they are wanted: while another daemon still forwards, which this one takes over from, or while a
 * start has other things to do. Whoever wants a hook with that text gets its process; if there is none, it is loaded then.
 *
 * So nothing depends on what is ready: a text that has changed meanwhile is not taken, and ended.
 */
import { HookProcess } from './process.ts';

export interface HookText {
  readonly source: string;
  /** How it is called where places in it are told. */
  readonly file: string;
}

interface BrokenHook {
  /** How it is called where places in it are told. */
  readonly file: string;
  /** Why it cannot be loaded. */
  readonly why: string;
}

type Started = Awaited<ReturnType<typeof HookProcess.start>>;

export class ReadyHooks {
  readonly #host: string;
  /** By their ids. */
  readonly #started = new Map<string, { readonly file: string; readonly started: Promise<Started> }>();

  constructor(host: string) {
    this.#host = host;
  }

  /** Begins to load it. @returns false if that has begun before */
  load(text: HookText): boolean {
    const id = idOf(text);
    if (this.#started.has(id)) return false;
    const started = this.#start(text);
    // Whoever takes it learns of that.
    started.catch(() => {});
    this.#started.set(id, { file: text.file, started });
    return true;
  }

  /** Resolves when all of them are loaded, or cannot be. */
  async loaded(): Promise<void> {
    await this.failures();
  }

  /** Those that cannot be loaded, once all of them are, or cannot be. */
  async failures(): Promise<readonly BrokenHook[]> {
    const looked = [...this.#started.values()].map(({ file, started }) =>
      started.then(
        () => [],
        (error: unknown) => [{ file, why: (error as Error).message }],
      ),
    );
    return (await Promise.all(looked)).flat();
  }

  /** Its process, which belongs to the caller. @throws WeftError that says why it cannot be loaded */
  take(text: HookText): Promise<Started> {
    const id = idOf(text);
    const known = this.#started.get(id);
    this.#started.delete(id);
    return known?.started ?? this.#start(text);
  }

  /** Ends those that nobody has taken. More can be loaded afterwards. */
  endOthers(): void {
    for (const { started } of this.#started.values()) {
      started.then(
        ({ process }) => process.close(),
        () => {},
      );
    }
    this.#started.clear();
  }

  #start({ source, file }: HookText): Promise<Started> {
    return HookProcess.start({ source, file, host: this.#host });
  }
}

function idOf({ source, file }: HookText): string {
  return `${file}\0${source}`;
}
