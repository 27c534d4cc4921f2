/**
 * Keeps the hooks that are wanted in force: those that are declared, and those in files of this host.
 *
 *   wanted ──► compiled and loaded, in a process of its own ──► in force
 *
 *   - One that cannot be loaded leaves the one in force that was there before. If there was none, it is in force as one that fails
 *     about everything.
 *   - One that throws has failed about that flow. It is told once, and counted.
 *   - One that does not return, needs too much of a processor, or whose process ends, loses its process, and is in quarantine: what
 *     it has said is remembered, and it fails about everything else. Then it is loaded again. The pause doubles each time, until it
 *     has been well for a while.
 *
 * What becomes of a flow about which a hook fails, the hook's `onError` says.
 *
 * At a start, nothing is forwarded until all of them are in force. So until then nobody waits for one to be loaded: all are loaded
 * at the same time, beside whatever else the start does (`start`, `inForce`).
 *
 * Owned by the thread of the switch. Time comes from the clock that is passed in, and with `tick`.
 */
import { WeftError } from '../error.ts';
import type { HookReport } from '../model/report.ts';
import type { FlowHook, HookAnswer } from '../table/hooks.ts';
import type { HookProcess } from './process.ts';
import { ReadyHooks } from './ready.ts';

/** A hook that is to be in force. */
export interface WantedHook {
  /** Undefined: as it calls itself. */
  readonly name: string | undefined;
  /** How its text is called where places in it are told. */
  readonly file: string;
  /** Undefined: it cannot be read, and `why` says why. */
  readonly source: string | undefined;
  readonly why?: string;
  readonly onError: FlowHook['onError'];
}

export interface HookKeeperEnvironment {
  readonly tables: { set(hooks: readonly FlowHook[]): void; available(): void };
  /** Decides again what depends on what has changed in the tables. */
  readonly enforce: () => void;
  readonly host: string;
  /** Those that are loaded already. */
  readonly ready?: ReadyHooks | undefined;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  readonly warn: (message: string, details: object) => void;
}

/** The pause of the first quarantine, the longest one, and how long a hook is to be well until the next is a first one again. */
const QUARANTINE_MS = { first: 1000, longest: 300_000, well: 60_000 };
/** How long a hook may run at once, and for each second that passes. If an answer takes as long as `look`, that is looked at. */
const RUN_MS = { atOnce: 500, perSecond: 250, look: 5 };

/** A version of a hook that was loaded. */
interface LoadedHook {
  readonly source: string;
  readonly file: string;
  readonly name: string;
  /** Undefined in quarantine. */
  process: HookProcess | undefined;
}

interface KeptHook {
  readonly id: string;
  wanted: WantedHook;
  loaded: LoadedHook | undefined;
  /** Why what is wanted is not in force. */
  failure: string | undefined;
  quarantine: { readonly why: string; readonly untilMs: number } | undefined;
  /** The pause of the next quarantine, and when the last one has ended. */
  pauseMs: number;
  backAtMs: number;
  inForce: FlowHook;
  /** What it was made of. */
  madeOf: LoadedHook | undefined;
  isTold: boolean;
  /** How long it has run, less what it may run, and when that was. */
  ranMs: number;
  ranAtMs: number;
  asked: number;
  failures: number;
  quarantines: number;
}

export class HookKeeper {
  readonly #environment: HookKeeperEnvironment;
  readonly #hooks = new Map<string, KeptHook>();
  readonly #ready: ReadyHooks;
  /** During a start, what was set. */
  #starting: Promise<void>[] | undefined;
  /** Work is done one after the other. */
  #work: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(environment: HookKeeperEnvironment) {
    this.#environment = environment;
    this.#ready = environment.ready ?? new ReadyHooks(environment.host);
  }

  /** A start begins: until `inForce`, nobody waits for what is set. */
  start(): void {
    this.#starting = [];
  }

  /** Returns when all that was set during the start is in force, or cannot be. From then on, whoever sets something waits for it. */
  async inForce(): Promise<void> {
    const starting = this.#starting ?? [];
    this.#starting = undefined;
    await Promise.all(starting);
  }

  /** Loads a hook, and ends it again. @throws WeftError that says why it cannot be loaded */
  async check(wanted: WantedHook): Promise<void> {
    const { process } = await this.#start(wanted);
    process!.close();
  }

  /**
   * Returns when they are in force, or cannot be; during a start, at once. They come into force at one moment, so that nothing passes
   * in between which one gives up to deny, and another one denies from now on.
   * @param all by their ids: two hooks may have one name, but not one id
   */
  set(all: readonly (readonly [string, WantedHook])[]): Promise<void> {
    if (this.#starting) {
      for (const [, { source, file }] of all) if (source !== undefined) this.#ready.load({ source, file });
    }
    const done = this.#inTurn(async () => {
      const loaded = await Promise.all(all.map(([id, wanted]) => this.#load(id, wanted)));
      for (const put of loaded) put();
      this.#publish();
    });
    if (!this.#starting) return done;
    this.#starting.push(done);
    return Promise.resolve();
  }

  remove(id: string): Promise<void> {
    return this.#inTurn(() => {
      const kept = this.#hooks.get(id);
      this.#hooks.delete(id);
      kept?.loaded?.process?.close();
      if (kept) this.#publish();
    });
  }

  /** Why what is wanted is not in force; undefined if it is. */
  failure(id: string): string | undefined {
    const kept = this.#hooks.get(id);
    return kept?.failure ?? kept?.quarantine?.why;
  }

  /** True if something is in force under that id, and not only a failure. */
  isLoaded(id: string): boolean {
    return this.#hooks.get(id)?.loaded !== undefined;
  }

  report(): HookReport[] {
    return this.#sorted().map(({ inForce, wanted, loaded, failure, quarantine, asked, failures, quarantines }) => {
      const why = quarantine?.why ?? failure;
      return {
        name: inForce.name,
        file: wanted.file,
        state: quarantine ? 'quarantine' : loaded ? 'in_force' : 'failed',
        onError: inForce.onError,
        ...(why !== undefined && { why }),
        ...{ asked, failures, quarantines },
      };
    });
  }

  /** Called about once a second: those whose quarantine is over are loaded again. */
  tick(): Promise<void> {
    for (const kept of this.#hooks.values()) this.#lookAtTime(kept);
    const nowMs = this.#environment.clock();
    const over = [...this.#hooks.values()].filter(({ quarantine }) => quarantine && quarantine.untilMs <= nowMs);
    if (over.length === 0) return Promise.resolve();
    return this.#inTurn(async () => {
      await Promise.all(over.map((kept) => this.#release(kept)));
      this.#environment.tables.available();
      this.#environment.enforce();
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#work;
    for (const { loaded } of this.#hooks.values()) {
      loaded?.process?.close();
      if (loaded) loaded.process = undefined;
    }
  }

  #inTurn(work: () => void | Promise<void>): Promise<void> {
    const done = this.#work.then(async () => {
      if (!this.#isClosed) await work();
    });
    this.#work = done.catch(() => {});
    return done;
  }

  /** Starts what is wanted, if it is not there. @returns how to put that into the place of what there was; it is to be called */
  async #load(id: string, wanted: WantedHook): Promise<() => void> {
    const { source, file } = wanted;
    const known = this.#hooks.get(id)?.loaded;
    const isThere = source !== undefined && known?.source === source && known.file === file;
    let next: LoadedHook | undefined;
    let why: string | undefined;
    try {
      if (!isThere) next = await this.#start(wanted);
    } catch (error) {
      // Whatever it is: what is wanted must not be missing without a word.
      why = (error as Error).message;
      const then = known ? 'the one before stays in force' : thenText(wanted);
      this.#environment.warn(`a hook cannot be loaded: ${then}`, { hook: wanted.name ?? known?.name ?? file, why });
    }
    return () => {
      const kept = this.#hooks.get(id) ?? this.#made(id, wanted);
      kept.wanted = wanted;
      kept.failure = why;
      if (next) {
        kept.loaded?.process?.close();
        Object.assign(kept, { loaded: next, quarantine: undefined });
        Object.assign(kept, { pauseMs: QUARANTINE_MS.first, isTold: false, ranMs: 0 });
      }
      this.#hooks.set(id, kept);
      this.#putInForce(kept);
    };
  }

  #made(id: string, wanted: WantedHook): KeptHook {
    const none = { loaded: undefined, madeOf: undefined, failure: undefined, quarantine: undefined, isTold: false };
    const counts = { asked: 0, failures: 0, quarantines: 0 };
    const pause = { pauseMs: QUARANTINE_MS.first, backAtMs: 0, ranMs: 0, ranAtMs: 0 };
    const inForce: FlowHook = { name: wanted.name ?? wanted.file, onError: wanted.onError, ask: () => notLoaded };
    return { id, wanted, inForce, ...none, ...counts, ...pause };
  }

  /** @throws WeftError that says why it cannot be loaded */
  async #start({ source, why, file, name: wantedName }: WantedHook): Promise<LoadedHook> {
    if (source === undefined) throw new WeftError('invalid', why ?? `${file}: it cannot be read`);
    const { process, name } = await this.#ready.take({ source, file });
    if (wantedName === undefined || wantedName === name) return { source, file, name, process };
    process.close();
    const called = `it calls itself ${JSON.stringify(name)}`;
    throw new WeftError('invalid', `${file}: ${called}: give it the name "${wantedName}"`);
  }

  #putInForce(kept: KeptHook): void {
    const { wanted, loaded, inForce } = kept;
    const { onError } = wanted;
    // What is remembered of it stays if it is the same.
    if (loaded && kept.madeOf === loaded && inForce.onError === onError) return;
    const name = loaded?.name ?? wanted.name ?? wanted.file;
    kept.inForce = { name, onError, ask: (question) => this.#ask(kept, question) };
    kept.madeOf = loaded;
  }

  #ask(kept: KeptHook, question: string): HookAnswer {
    const { loaded, quarantine, failure } = kept;
    const process = loaded?.process;
    if (!process) return { kind: 'unavailable', why: quarantine?.why ?? failure ?? notLoaded.why };
    kept.asked++;
    const { clock } = this.#environment;
    const fromMs = clock();
    const answer = process.ask(question);
    if (answer.kind === 'unavailable') {
      this.#isolate(kept, answer.why);
      return { kind: 'unavailable', why: kept.quarantine!.why };
    }
    if (clock() - fromMs >= RUN_MS.look) this.#lookAtTime(kept);
    if (answer.kind !== 'failed') return answer;
    kept.failures++;
    if (!kept.isTold) this.#warn(kept, 'a hook has failed about a flow', answer.why);
    kept.isTold = true;
    return answer;
  }

  /** The switch waits whenever a hook runs. */
  #lookAtTime(kept: KeptHook): void {
    const process = kept.loaded?.process;
    if (!process) return;
    const nowMs = this.#environment.clock();
    const allowedMs = ((nowMs - kept.ranAtMs) / 1000) * RUN_MS.perSecond;
    kept.ranMs = Math.max(0, kept.ranMs + process.takeRunMs() - allowedMs);
    kept.ranAtMs = nowMs;
    if (kept.ranMs > RUN_MS.atOnce) this.#isolate(kept, 'it needs too much of a processor');
  }

  /** Nothing in the tables changes by that: it may happen while a flow is decided. */
  #isolate(kept: KeptHook, why: string): void {
    const nowMs = this.#environment.clock();
    kept.loaded!.process!.close();
    kept.loaded!.process = undefined;
    if (nowMs - kept.backAtMs > QUARANTINE_MS.well) kept.pauseMs = QUARANTINE_MS.first;
    const { pauseMs } = kept;
    kept.quarantine = { why: `${why}, and is not asked for ${pauseMs / 1000} s`, untilMs: nowMs + pauseMs };
    kept.pauseMs = Math.min(2 * pauseMs, QUARANTINE_MS.longest);
    kept.quarantines++;
    this.#warn(kept, 'a hook is in quarantine', kept.quarantine.why);
  }

  async #release(kept: KeptHook): Promise<void> {
    const { loaded, quarantine, id } = kept;
    if (!loaded || loaded.process || !quarantine || this.#hooks.get(id) !== kept) return;
    try {
      ({ process: loaded.process } = await this.#ready.take(loaded));
      kept.quarantine = undefined;
      Object.assign(kept, { backAtMs: this.#environment.clock(), ranMs: 0 });
    } catch (error) {
      kept.quarantine = { why: (error as Error).message, untilMs: this.#environment.clock() + kept.pauseMs };
    }
  }

  #warn({ inForce, wanted }: KeptHook, message: string, why: string): void {
    this.#environment.warn(`${message}: ${thenText(wanted)}`, { hook: inForce.name, why });
  }

  #publish(): void {
    this.#environment.tables.set(this.#sorted().map(({ inForce }) => inForce));
    this.#environment.enforce();
  }

  /** By name, in the order in which they are asked. */
  #sorted(): KeptHook[] {
    return [...this.#hooks.values()].sort((a, b) => {
      const [one, other] = [`${a.inForce.name}\0${a.id}`, `${b.inForce.name}\0${b.id}`];
      return one < other ? -1 : one > other ? 1 : 0;
    });
  }
}

const notLoaded = { kind: 'unavailable', why: 'it is not loaded' } as const;

function thenText({ onError }: WantedHook): string {
  return onError === 'deny' ? 'what it cannot judge is denied' : 'what it cannot judge is let pass';
}
