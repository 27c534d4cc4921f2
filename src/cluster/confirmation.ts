/**
 * Changes that are taken back unless somebody confirms them: `weft apply --confirm 60s`, then `weft confirm`.
 *
 *   1. the transaction that stores the change also stores what it replaces, under `unconfirmed/`. So whoever knows of the change
 *      knows how to take it back, whatever becomes of the client and of this daemon
 *   2. confirming it deletes these records. Any host can do that
 *   3. if nobody has when its time is over, the host that made it takes it back; if that host does not, another one does, GRACE_MS
 *      later. From then on it cannot be confirmed any more
 *   4. what the change has replaced is applied again, all of it at once; then what it has created is deleted, those that need others
 *      first. The record of each goes with it, so whoever is interrupted goes on where that was
 *
 * What somebody has changed or deleted since is left alone, and so is what cannot be taken back, such as a network that has other
 * endpoints by now: that is named in the log and in `weft status`. Of a shared store, one change may wait at a time, since
 * `weft confirm` says nothing about which one.
 *
 * PolicyTests are not asked: what was there before must come back.
 */
import { WeftError, type ErrorCode } from '../error.ts';
import type { KindDefinition } from '../model/kinds/kind.ts';
import { endpointKind } from '../model/kinds/endpoint.ts';
import { compareKinds } from '../model/kinds/registry.ts';
import { parseResource } from '../model/manifest.ts';
import { unconfirmedChange, unconfirmedOf, type UnconfirmedChange } from '../model/records.ts';
import type { ConfirmReport, ConfirmationReport } from '../model/report.ts';
import { nameOf, type Resource, type ResourceName } from '../model/resource.ts';
import type { Change, Entry, Put, Transaction } from '../store/store.ts';
import type { Feed } from './feed/feed.ts';
import { keyOf, nameOfKey, resourceAt } from './keys.ts';
import { PlanAgain } from './plan-again.ts';
import type { Keys, Register } from './register.ts';

export interface ConfirmationEnvironment {
  readonly hostName: string;
  readonly feed: Pick<Feed, 'get'>;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
  readonly logger: Readonly<Record<'info' | 'warn' | 'error', (details: object, message: string) => void>>;
  /** These are the methods of `Cluster`. */
  readonly change: <T>(work: () => Promise<T>) => Promise<T>;
  readonly apply: (resources: readonly Resource[], also: Transaction) => Promise<unknown>;
  readonly remove: (kind: KindDefinition, which: ResourceName, also: Transaction) => Promise<unknown>;
  readonly write: (transaction: Transaction) => Promise<unknown>;
}

/** What a change replaces. */
export interface Replaced {
  readonly kind: KindDefinition;
  readonly name: string;
  /** With what weft has allotted to it, to be applied again. Undefined: it did not exist. */
  readonly before: Resource | undefined;
}

const PREFIX = 'unconfirmed/';
const CHANGE = `${PREFIX}change`;
/** Followed by the key of a resource. */
const OF = `${PREFIX}of/`;
/** How much longer other hosts wait than the one that made the change. */
const GRACE_MS = 30_000;
/** When it is tried again if the store, or this host, cannot do it now. */
const RETRY_MS = 5000;
/** How often that is tried before what this host cannot put back is left alone. */
const MOST_TRIED = 60;
/** What these say is so however often it is tried. */
const FINAL: ReadonlySet<ErrorCode> = new Set(['invalid', 'not_found', 'conflict']);

interface Waiting extends UnconfirmedChange {
  readonly revision: number;
}

interface ReplacedRecord {
  /** Null: there was nothing. */
  readonly before: object | null;
  readonly revision: number;
}

/** What is left alone, and why. */
type Left = NonNullable<ConfirmationReport['takenBack']>['left'][number];

export class Confirmation implements Register {
  readonly prefix = PREFIX;
  readonly #environment: ConfirmationEnvironment;
  #waiting: Waiting | undefined;
  /** Of the record of the change, be it one that cannot be read; 0 if there is none. */
  #revision = 0;
  /** By the key of the resource. */
  readonly #replaced = new Map<string, ReplacedRecord>();
  #takenBack: ConfirmationReport['takenBack'] = null;
  /** What became of the last change of which this daemon knew, to be put behind a sentence. */
  #last = '';
  /** The revision of the record for which the time runs; 0 if it runs for none. */
  #armedFor = 0;
  /** When that time is over. */
  #dueMs = 0;
  #cancel = (): void => {};
  /** Why it could not be taken back the last time. */
  #toldWhy: string | undefined;
  /** How often in a row it could not be taken back although the store was there. */
  #failed = 0;
  #isClosed = false;

  constructor(environment: ConfirmationEnvironment) {
    this.#environment = environment;
  }

  report(): ConfirmationReport {
    const waiting = this.#waiting;
    return {
      waiting: waiting
        ? {
            host: waiting.host,
            until: untilOf(waiting),
            ...this.#byOthers(waiting),
            resources: [...this.#replaced.keys()].map(nameOfKey),
            isTakenBack: waiting.takingBack !== undefined,
          }
        : null,
      takenBack: this.#takenBack,
    };
  }

  #byOthers({ host, at, forMs, takingBack }: Waiting): { readonly byOthersAt?: string } {
    const { hostName, wallClock } = this.#environment;
    const isOver = wallClock() > Date.parse(at) + forMs;
    if (host === hostName || !isOver || takingBack !== undefined) return {};
    return { byOthersAt: new Date(this.#dueMs).toISOString() };
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel();
  }

  // Following the store

  see(changes: readonly Change[]): void {
    for (const { key, entry } of changes) {
      if (key === CHANGE) this.#seeChange(entry);
      else if (key.startsWith(OF)) this.#seeReplaced(key.slice(OF.length), entry);
    }
    if (changes.some(({ key }) => key === CHANGE)) this.#arm();
  }

  #seeChange(entry: Entry | undefined): void {
    const { data } = unconfirmedChange.safeParse(entry?.value);
    this.#revision = entry?.revision ?? 0;
    if (!entry && this.#waiting)
      this.#last = `: the last change was ${this.#waiting.takingBack === undefined ? 'confirmed' : 'taken back'}`;
    this.#waiting = data && { ...data, revision: this.#revision };
  }

  /** Of what cannot be read, nothing is known but that there was something: it is not taken back. */
  #seeReplaced(key: string, entry: Entry | undefined): void {
    const { data } = unconfirmedOf.safeParse(entry?.value);
    if (entry) this.#replaced.set(key, { before: data ? data.before : {}, revision: entry.revision });
    else this.#replaced.delete(key);
  }

  listed(keys: Keys): void {
    for (const key of this.#replaced.keys()) if (!keys.has(OF + key)) this.#replaced.delete(key);
    if (!keys.has(CHANGE)) this.#seeChange(undefined);
    this.#arm();
  }

  /**
   * Whoever did not make it counts from when it learned of it: clocks of hosts differ. It may be told again, as after each break of
   * the store.
   */
  #arm(): void {
    const { hostName, wallClock } = this.#environment;
    const waiting = this.#waiting;
    if (waiting?.revision === this.#armedFor) return;
    this.#cancel();
    this.#armedFor = waiting?.revision ?? 0;
    if (!waiting) return;
    const { host, at, forMs, takingBack } = waiting;
    const isOwn = host === hostName;
    const leftMs = Math.min(Math.max(Date.parse(at) + forMs - wallClock(), 0), forMs);
    this.#wait(isOwn ? (takingBack === undefined ? leftMs : 0) : (takingBack === undefined ? forMs : 0) + GRACE_MS);
  }

  #wait(delayMs: number): void {
    if (this.#isClosed) return;
    this.#cancel();
    this.#dueMs = this.#environment.wallClock() + delayMs;
    this.#cancel = this.#environment.after(delayMs, () => void this.#takeBack());
  }

  // Making a change, and confirming it

  /** What a change stores that waits to be confirmed. @throws WeftError('conflict') if another one waits */
  plan(replaced: readonly Replaced[], forMs: number): Transaction {
    const { hostName, wallClock } = this.#environment;
    if (this.#waiting) {
      const { host } = this.#waiting;
      const until = untilOf(this.#waiting);
      throw new WeftError(
        'conflict',
        `another change, made on host "${host}", waits to be confirmed until ${until}: \`weft confirm\` keeps it`,
      );
    }
    const change: UnconfirmedChange = { host: hostName, at: new Date(wallClock()).toISOString(), forMs };
    const put = replaced.map(
      ({ kind, name, before = null }): Put => ({ key: OF + keyOf(kind, name), value: { before } }),
    );
    const expect = put.map(({ key }) => ({ key, revision: this.#replaced.get(key.slice(OF.length))?.revision ?? 0 }));
    return {
      expect: [{ key: CHANGE, revision: this.#revision }, ...expect],
      put: [{ key: CHANGE, value: change }, ...put],
    };
  }

  /** Until when a change is to be confirmed; undefined if none waits. */
  get until(): string | undefined {
    return this.#waiting && untilOf(this.#waiting);
  }

  /** True if a resource is as the change has made it that waits. @param revision that it has now */
  hasMade(key: string, revision: number | undefined): boolean {
    const { takingBack, revision: made } = this.#waiting ?? {};
    return this.#replaced.has(key) && revision === (takingBack ?? made);
  }

  /** Keeps the change that waits. @throws WeftError if there is none, or if it is too late */
  confirm(): Promise<ConfirmReport> {
    const { change, write, logger } = this.#environment;
    return change(async () => {
      const waiting = this.#waiting;
      if (!waiting) throw new WeftError('not_found', `nothing waits to be confirmed${this.#last}`);
      const { host, at, takingBack, revision } = waiting;
      if (takingBack !== undefined)
        throw new WeftError(
          'conflict',
          'it is too late: the change is being taken back; `weft status` says when it is',
        );
      const keys = [...this.#replaced.keys()];
      const otherwise = await this.#changedSince(keys, revision);
      const isAsMade = (resource: string): boolean => otherwise.every((one) => one.resource !== resource);
      const resources = keys.map(nameOfKey).filter(isAsMade);
      await write({ expect: [{ key: CHANGE, revision }], delete: [CHANGE, ...keys.map((key) => OF + key)] });
      logger.info({ resources, otherwise }, 'confirmed');
      return { host, at, resources, otherwise };
    });
  }

  /** What is not as the change has made it any more. */
  async #changedSince(keys: readonly string[], made: number): Promise<Left[]> {
    const otherwise: Left[] = [];
    for (const key of keys) {
      const entry = await this.#environment.feed.get(key);
      if (entry?.revision !== made) note(otherwise, key, sinceText(entry));
    }
    return otherwise;
  }

  // Taking it back

  async #takeBack(): Promise<void> {
    const { change, logger, wallClock } = this.#environment;
    const left: Left[] = [];
    const resources = [...this.#replaced.keys()].map(nameOfKey);
    try {
      if (!(await change(() => this.#work(left)))) return;
    } catch (error) {
      if (this.#isClosed) return;
      const { code, message: why } = error as WeftError;
      if (code !== 'unreachable') this.#failed++;
      if (why !== this.#toldWhy)
        logger.warn({ why }, 'a change that nobody confirmed cannot be taken back now: trying again');
      this.#toldWhy = why;
      return this.#wait(RETRY_MS);
    }
    this.#failed = 0;
    this.#toldWhy = undefined;
    const at = new Date(wallClock()).toISOString();
    this.#takenBack = { at, resources, left };
    this.#last = `: the last change was taken back at ${at}`;
    logger.warn({ resources, left }, 'a change was taken back, since nobody has confirmed it in time');
  }

  /** Called again with what is left to do if others change the same. @returns false if it was confirmed */
  async #work(left: Left[]): Promise<boolean> {
    const { write } = this.#environment;
    left.length = 0;
    if (!this.#waiting) return false;
    const { revision, takingBack, ...record } = this.#waiting;
    const made = takingBack ?? revision;
    // From here on, confirming it is too late.
    if (takingBack === undefined)
      await write({
        expect: [{ key: CHANGE, revision }],
        put: [{ key: CHANGE, value: { ...record, takingBack: made } satisfies UnconfirmedChange }],
      });
    const [restored, removed] = await this.#sorted(made, left);
    await this.#restore(restored, record.host, left);
    for (const one of removed.sort(([a], [b]) => -compareKinds(kindAt(a), kindAt(b)))) await this.#remove(one[0], left);
    const rest = [...this.#replaced.keys()].map((key) => OF + key);
    // Another host may have come to its end before.
    if (this.#revision !== 0)
      await write({ expect: [{ key: CHANGE, revision: this.#revision }], delete: [CHANGE, ...rest] });
    return true;
  }

  /** Those that are as the change has made them: what it replaced, and what it created. */
  async #sorted(made: number, left: Left[]): Promise<[restored: Item[], removed: Item[]]> {
    const [restored, removed]: [Item[], Item[]] = [[], []];
    for (const [key, { before }] of this.#replaced) {
      if (!resourceAt(key)) {
        note(left, key, 'this version of weft does not know its kind');
        continue;
      }
      const entry = await this.#environment.feed.get(key);
      if (entry?.revision === made) (before ? restored : removed).push([key, before]);
      else if (entry || before) note(left, key, sinceText(entry));
    }
    return [restored, removed];
  }

  /** @param host the one that made the change */
  async #restore(items: readonly Item[], host: string, left: Left[]): Promise<void> {
    if (items.length === 0) return;
    const isOwn = host === this.#environment.hostName;
    try {
      const resources = items.map(([, before]) => parseResource(isOwn ? before : asOn(host, before)));
      await this.#environment.apply(resources, { delete: items.map(([key]) => OF + key) });
    } catch (error) {
      const why = this.#refusalOf(error);
      const [[key]] = items as [Item];
      if (items.length === 1) note(left, key, why);
      else for (const item of items) await this.#restore([item], host, left);
    }
  }

  async #remove(key: string, left: Left[]): Promise<void> {
    const { kind, name } = resourceAt(key)!;
    try {
      await this.#environment.remove(kind, kind.isNamespaced ? nameOf(name) : { name }, { delete: [OF + key] });
    } catch (error) {
      note(left, key, this.#refusalOf(error));
    }
  }

  /** Why it cannot be taken back. @throws the error if it may be possible later: the disk is full, or the store away */
  #refusalOf(error: unknown): string {
    const isOfWeft = error instanceof WeftError && !(error instanceof PlanAgain) && error.code !== 'unreachable';
    if (!isOfWeft || (!FINAL.has(error.code) && this.#failed < MOST_TRIED)) throw error;
    return error.message;
  }
}

type Item = readonly [key: string, before: object | null];

/** What that host has attached stays there, whoever takes the change back. */
function asOn(host: string, before: object | null): object | null {
  const { kind, spec } = before as { readonly kind?: unknown; readonly spec?: Readonly<Record<string, unknown>> };
  if (kind !== endpointKind.kind || spec === undefined || spec['host'] !== undefined) return before;
  const { netns: _netns, pid: _pid, interface: _interface, ...rest } = spec;
  return { ...before, spec: { ...rest, host } };
}

function note(left: Left[], key: string, why: string): void {
  left.push({ resource: nameOfKey(key), why });
}

function sinceText(entry: Entry | undefined): string {
  return entry ? 'it was changed since' : 'it was deleted since';
}

function untilOf({ at, forMs }: UnconfirmedChange): string {
  return new Date(Date.parse(at) + forMs).toISOString();
}

function kindAt(key: string): { readonly kind: string } {
  return { kind: resourceAt(key)!.kind.kind };
}
