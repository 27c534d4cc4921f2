/**
 * Keeps the flow classes of this host: reads them when it forwards, looks at what is going on every few seconds, and writes them now and
 * then, and at its end.
 *
 * The clock on the wall is asked when they are read, written or told, and at no other time: it may be set meanwhile.
 */
import { rm } from 'node:fs/promises';
import type { FlowClassesReport } from '../../model/policy-report.ts';
import { eachInTurns } from '../../turns.ts';
import { readClasses, writeClasses } from './class-file.ts';
import { ClassWatch, type ClassWatchEnvironment } from './class-watch.ts';
import type { FlowClass } from './flow-class.ts';
import { FlowClasses, MOST_CLASSES } from './flow-classes.ts';

export interface ClassKeeperEnvironment extends Omit<ClassWatchEnvironment, 'classes'> {
  /** The file that keeps them. */
  readonly path: string;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  readonly warn: (message: string, details: object) => void;
  /** A look has thrown, which is a defect in weft. */
  readonly onError: (error: unknown) => void;
}

/** A record stays for 10 seconds after its connection has ended. */
const LOOK_MS = 4000;
const THOROUGH_MS = 60_000;
const WRITE_MS = 600_000;
/** How many are put back in one turn of the event loop. */
const TURN_RESTORED = 256;

export class ClassKeeper {
  readonly #environment: ClassKeeperEnvironment;
  readonly #classes = new FlowClasses();
  readonly #watch: ClassWatch;
  /** Undefined until what was kept has been read. */
  #lookedAtMs: number | undefined;
  #thoroughAtMs = -Infinity;
  #writtenAtMs = 0;
  #working: Promise<void> = Promise.resolve();
  #isBusy = false;
  #toldWhy: string | undefined;

  constructor(environment: ClassKeeperEnvironment) {
    this.#environment = environment;
    this.#watch = new ClassWatch({ ...environment, classes: this.#classes });
  }

  report(): FlowClassesReport {
    const { size, givenUp } = this.#classes;
    return { count: size, limit: MOST_CLASSES, givenUp, passedOver: this.#watch.passedOver };
  }

  /** Reads what was kept. Before, nothing is looked at. */
  start(): Promise<void> {
    const { path, clock, warn } = this.#environment;
    return this.#run(async () => {
      try {
        const kept = await readClasses(path);
        const [now, aheadMs] = [clock(), this.#aheadMs];
        // The clock on the wall may have been ahead when they were written.
        const shifted = (ms: number): number => Math.min(now, ms - aheadMs);
        await eachInTurns(kept, TURN_RESTORED, (one) => this.#classes.restore(at(one, shifted)));
      } catch (error) {
        warn('the flow classes of the last days cannot be read: they begin anew', {
          path,
          why: (error as Error).message,
        });
      }
      this.#lookedAtMs = -Infinity;
      this.#writtenAtMs = clock();
    });
  }

  /** Called about once a second. */
  tick(): void {
    if (this.#isBusy || this.#lookedAtMs === undefined) return;
    if (this.#environment.clock() < this.#lookedAtMs + LOOK_MS) return;
    void this.#run(async () => {
      await this.#look();
      if (this.#environment.clock() >= this.#writtenAtMs + WRITE_MS) await this.#write();
    }).catch(this.#environment.onError);
  }

  /** The classes, with what is going on now. */
  async now(): Promise<readonly FlowClass[]> {
    await this.#run(() => this.#look());
    return [...this.#inWallTime()];
  }

  /** What the clock on the wall shows beyond that of the switch. */
  get #aheadMs(): number {
    const { clock, wallClock } = this.#environment;
    return wallClock() - clock();
  }

  /** As they are when this begins: they may be changed while somebody goes through them. */
  *#inWallTime(): Generator<FlowClass> {
    const aheadMs = this.#aheadMs;
    for (const one of [...this.#classes.values()]) yield at(one, (ms) => Math.max(0, ms + aheadMs));
  }

  /** Nothing is looked at any more. What is known is kept, unless all is to be forgotten. */
  async close({ purge }: { readonly purge: boolean }): Promise<void> {
    const hasStarted = this.#lookedAtMs !== undefined;
    await this.#run(async () => {
      this.#lookedAtMs = undefined;
      this.#watch.close();
      if (purge) await rm(this.#environment.path, { force: true }).catch(() => {});
      else if (hasStarted) {
        await this.#watch.look(false);
        await this.#write();
      }
    });
  }

  async #look(): Promise<void> {
    if (this.#lookedAtMs === undefined) return;
    const now = this.#environment.clock();
    const isThorough = now >= this.#thoroughAtMs + THOROUGH_MS;
    this.#lookedAtMs = now;
    if (isThorough) this.#thoroughAtMs = now;
    await this.#watch.look(isThorough);
  }

  /** Never throws. */
  async #write(): Promise<void> {
    const { path, clock, warn } = this.#environment;
    this.#writtenAtMs = clock();
    try {
      await writeClasses(path, this.#inWallTime());
      this.#toldWhy = undefined;
    } catch (error) {
      const why = (error as Error).message;
      if (why !== this.#toldWhy) warn('the flow classes of the last days cannot be written', { path, why });
      this.#toldWhy = why;
    }
  }

  /** One after the other. */
  #run(work: () => Promise<void>): Promise<void> {
    this.#isBusy = true;
    const done = this.#working.then(work);
    this.#working = done
      .catch(() => {})
      .then(() => {
        this.#isBusy = false;
      });
    return done;
  }
}

function at(one: FlowClass, timeOf: (ms: number) => number): FlowClass {
  return { ...one, firstSeenMs: timeOf(one.firstSeenMs), lastSeenMs: timeOf(one.lastSeenMs) };
}
