/**
 * Puts into force what the feed says. The only place where that happens, whoever wrote it:
 *
 *   1. `follow` takes the news from the feed, one after the other
 *   2. registers see the records that are no resources (`register.ts`)
 *   3. records of resources are read by today's schema; those that this host cannot have are kept as refused, and what was in
 *      force under their names stays so, also across a start
 *   4. the reconcilers remove, then put: those that others need first, and last when they go
 *   5. followers are told what has changed
 *
 * A defect in one kind does not stop the others. What cannot be put into force stays declared, and waits in its reconciler.
 */
import { WeftError } from '../error.ts';
import type { KindDefinition } from '../model/kinds/kind.ts';
import { kinds } from '../model/kinds/registry.ts';
import { idOf, weightOf } from '../model/resource.ts';
import { refusePrototypeField } from '../model/prototype-field.ts';
import { validate } from '../model/validate.ts';
import type { Change, Entry } from '../store/store.ts';
import { eachInTurns, nextTurn } from '../turns.ts';
import { Deletions } from './deletions.ts';
import type { Feed, News } from './feed/feed.ts';
import { Followers } from './followers.ts';
import { LIVE, resourceAt } from './keys.ts';
import type { Reconciler, Stored, Unread } from './reconciler.ts';
import { MOST_NAMED, RefusedRecords } from './refused-records.ts';
import type { Register } from './register.ts';
import { thrifty } from './thrifty.ts';

export interface EnforcementEnvironment {
  readonly feed: Feed;
  readonly reconcilers: ReadonlyMap<string, Reconciler>;
  /** Those who follow what the store holds besides resources. */
  readonly registers: readonly Register[];
  /** Called when something has been put into force, except during the start. */
  readonly onEnforced: () => Promise<void>;
  /**
   * Called when something but signs of life was new, or the store went back.
   * @param revision everything up to there is in force @param latest the last change of the state that is known
   */
  readonly onInForce?: (revision: number, latest: number) => void;
  /** Methods as pino has them. */
  readonly logger: Readonly<Record<'info' | 'warn' | 'error', (details: object, message: string) => void>>;
}

/** How many records of the store are read in one turn. */
const READ_PER_TURN = 64;

export class Enforcement {
  readonly refused = new RefusedRecords();
  readonly deletions = new Deletions();
  readonly followers: Followers;
  readonly #environment: EnforcementEnvironment;
  /** The revision of what was put into force last. */
  #revision = 0;
  /** The revision of the last change that was more than a sign of life. */
  #latest = 0;
  /** The revision of which was told last that it is in force. */
  #told = 0;
  /** Keys of what is in force and not stored yet. */
  readonly #unstored = new Set<string>();
  /** Called when everything that there was at the start is in force; undefined from then on. */
  #onStarted: (() => Promise<void>) | undefined;

  constructor(environment: EnforcementEnvironment) {
    this.#environment = environment;
    this.followers = new Followers(environment.reconcilers);
  }

  /** The revision of what was put into force last. */
  get revision(): number {
    return this.#revision;
  }

  /** False while this host has something in force that a shared store does not have yet. */
  get isStored(): boolean {
    return this.#unstored.size === 0;
  }

  /** Begins, after the feed has: `follow` calls `onStarted` when everything that there is is in force. */
  async start(onStarted: () => Promise<void>): Promise<void> {
    const { reconcilers, registers } = this.#environment;
    this.#onStarted = onStarted;
    // What an earlier version has kept was brought up to date.
    for (const one of [...registers, ...reconcilers.values()]) await one.load?.();
    await this.follow();
  }

  /** Puts everything that the feed has so far into force. Call within the `serial` of the cluster. */
  async follow(): Promise<void> {
    const { feed, onEnforced } = this.#environment;
    let isDone = false;
    for (let news = await feed.next(); news; news = await feed.next()) {
      isDone = (await this.#enforce(news)) || isDone;
      if (news.keys && this.#onStarted) {
        const onStarted = this.#onStarted;
        this.#onStarted = undefined;
        await onStarted();
        isDone = false;
      }
    }
    if (isDone && !this.#onStarted) await onEnforced();
  }

  /** @returns true if there was something to do */
  async #enforce(news: News): Promise<boolean> {
    const { changes, revision, keys } = news;
    const { reconcilers, registers } = this.#environment;
    const hasGoneBack = revision < this.#revision;
    this.#revision = revision;
    const changed = await this.#enforceAll(changes, revision, news);
    // What clashed with others before may be possible now.
    const refused = this.refused.clashing(changed);
    if (refused.length > 0) await this.#enforceAll(refused, revision);
    if (keys) {
      for (const register of registers) await register.listed?.(keys, revision);
      for (const reconciler of reconcilers.values()) await reconciler.listed?.(keys, revision);
    }
    const concern = changes.filter(({ key }) => !key.startsWith(LIVE));
    this.#note(hasGoneBack, { ...news, changes: concern });
    // What this host has stored itself is known before the watch has come so far: what was told of then is not all.
    const wasBehind = this.#told < this.#latest && revision > this.#told;
    // What was missed before it was read anew, others have had in force, and may ask for.
    const isDue = keys !== undefined || news.listed !== undefined || news.isOfState || concern.length > 0;
    if (isDue || hasGoneBack || wasBehind) {
      this.#told = revision;
      this.#environment.onInForce?.(revision, this.#latest);
    }
    return changed.size > 0;
  }

  #note(hasGoneBack: boolean, news: News): void {
    this.#latest = news.listed?.latest ?? Math.max(hasGoneBack ? 0 : this.#latest, latestOf(news));
    for (const { key, entry } of news.changes) {
      if ((entry?.revision ?? 0) < 0) this.#unstored.add(key);
      else this.#unstored.delete(key);
    }
  }

  /** @returns the kinds of which something has changed */
  async #enforceAll(
    changes: readonly Change[],
    revision: number,
    { before, repeats = false }: Pick<News, 'before' | 'repeats'> = {},
  ): Promise<ReadonlySet<string>> {
    const { feed, reconcilers, registers } = this.#environment;
    for (const register of registers) {
      const concern = changes.filter(({ key }) => key.startsWith(register.prefix));
      for (let first = 0; first < concern.length; first += READ_PER_TURN) {
        if (first > 0) await nextTurn();
        await this.#guarded(() => register.see(concern.slice(first, first + READ_PER_TURN), revision));
      }
    }
    const put = new Map<string, Stored[]>(kinds.map(({ kind }) => [kind, []]));
    const removed = new Map<string, string[]>(kinds.map(({ kind }) => [kind, []]));
    const unread = new Map<string, Unread[]>(kinds.map(({ kind }) => [kind, []]));
    const stays = new Set<Stored>();
    const read = (change: Change): void => {
      const at = resourceAt(change.key);
      if (!at) return;
      const { kind, name } = at;
      this.deletions.see(change);
      const accepted = put.get(kind.kind)!;
      // Also of a refused record something may be left, such as an interface.
      const isKnown = reconcilers.get(kind.kind)!.find(name) || this.refused.revision(kind, name) !== undefined;
      const stored = this.#stored(change, kind, name, accepted, repeats);
      if (stored) accepted.push(stored);
      const isRefused = change.entry !== undefined && this.refused.revision(kind, name) === change.entry.revision;
      const last = isRefused ? this.#lastAccepted(before?.get(change.key), kind, name, accepted) : undefined;
      if (last) accepted.push(last);
      if (last) stays.add(last);
      if (change.entry) feed.judged?.(change.entry, !isRefused);
      if (isRefused) {
        const { resource } = recordOf(change.entry.value);
        unread.get(kind.kind)!.push({ name, resource });
      }
      if (!change.entry && isKnown) removed.get(kind.kind)!.push(name);
    };
    await eachInTurns(changes, READ_PER_TURN, read, {
      weightOf: ({ entry }) => weightOf(recordOf(entry?.value).resource),
    });
    for (const { kind } of [...kinds].reverse()) {
      const names = removed.get(kind)!;
      if (names.length > 0) await this.#guarded(() => reconcilers.get(kind)!.remove(names));
    }
    for (const { kind } of kinds) {
      const stored = put.get(kind)!.filter((one) => !stays.has(one));
      const last = put.get(kind)!.filter((one) => stays.has(one));
      // As if the refused record had come later.
      if (last.length > 0) await this.#guarded(() => reconcilers.get(kind)!.put(last));
      await this.#guarded(() => reconcilers.get(kind)?.refused?.(unread.get(kind)!));
      if (stored.length > 0) await this.#guarded(() => reconcilers.get(kind)!.put(stored));
      await this.#guarded(() => reconcilers.get(kind)?.complete?.());
    }
    for (const reconciler of reconcilers.values()) await this.#guarded(() => reconciler.settle?.());
    for (const { kind } of kinds) {
      this.followers.changed(kind, [...removed.get(kind)!, ...put.get(kind)!.map(({ name }) => name)]);
    }
    return new Set([...put, ...removed].flatMap(([kind, all]) => (all.length > 0 ? [kind] : [])));
  }

  /**
   * The record as today's schema reads it. Undefined if it is deleted, in force already, or not accepted.
   * @param others the records of this kind that are accepted together with it @param repeats as in `News`
   */
  #stored(
    change: Change,
    kind: KindDefinition,
    name: string,
    others: readonly Stored[],
    repeats: boolean,
  ): Stored | undefined {
    const { key, entry } = change;
    const isKnown = repeats && this.#environment.reconcilers.get(kind.kind)!.find(name)?.revision === entry?.revision;
    try {
      const stored = entry && !isKnown ? this.#accepted(entry, kind, name, others) : undefined;
      this.refused.delete(key);
      return stored;
    } catch (error) {
      const { code, message: why } = error as WeftError;
      const isClash = code === 'conflict';
      const isNews = this.refused.add({ kind, name, revision: entry!.revision, why, isClash, change });
      if (isNews) this.#tellRefused(key, why);
      return undefined;
    }
  }

  /** What was in force under a name whose record is refused, if nothing is. Undefined if this version accepts nothing of that either. */
  #lastAccepted(
    before: readonly Entry[] | undefined,
    kind: KindDefinition,
    name: string,
    others: readonly Stored[],
  ): Stored | undefined {
    if (this.#environment.reconcilers.get(kind.kind)!.find(name)) return undefined;
    for (const entry of before ?? []) {
      try {
        return this.#accepted(entry, kind, name, others);
      } catch {
        // Nor was it accepted before.
      }
    }
    return undefined;
  }

  /** Whoever can write to the store can make very many. */
  #tellRefused(key: string, why: string): void {
    const { count } = this.refused;
    const { logger } = this.#environment;
    if (count <= MOST_NAMED) logger.warn({ key, why }, 'a record of the store is not accepted');
    else if (count === MOST_NAMED + 1)
      logger.warn({ key, why }, 'more records of the store are not accepted: weft status has their number');
  }

  /** @throws WeftError that says why this host cannot have it */
  #accepted({ value, revision }: Entry, kind: KindDefinition, name: string, others: readonly Stored[]): Stored {
    if (value === null || typeof value !== 'object') {
      throw new WeftError('invalid', 'it is no JSON object: somebody else than weft has written it');
    }
    refusePrototypeField(value);
    const record = recordOf(value);
    const resource = thrifty(validate(kind.schema, record.resource, { field: 'resource' }));
    if (idOf(resource.metadata) !== name) {
      throw new WeftError('invalid', `resource.metadata.name: its key says ${name}, not ${idOf(resource.metadata)}`);
    }
    const stored = { name, resource, revision, record };
    this.#environment.reconcilers.get(kind.kind)!.check?.(stored, others);
    return stored;
  }

  /** Keeps a defect in one kind from stopping the others. */
  async #guarded(step: () => void | Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      this.#environment.logger.error({ err: error }, 'unexpected');
    }
  }
}

/** @param value whatever somebody has written */
function recordOf(value: unknown): { readonly resource?: unknown } {
  return Object(value) as { readonly resource?: unknown };
}

/**
 * When the last of the changes was made. Whoever reads everything does not learn when something was deleted, and the others
 * have had in force for long what is there: the revision of what was read may be one that they never have to do with.
 */
function latestOf({ changes, revision, madeAt, isOfState = false, keys }: News): number {
  if (changes.length === 0 && !isOfState) return 0;
  // Of a store that went back, this host may know changes that it has lost.
  const isThere = (one: number): boolean => !keys || one <= revision;
  const made = changes.map(({ entry }) => entry?.revision ?? 0).filter(isThere);
  return made.reduce((latest, one) => Math.max(latest, one), madeAt ?? 0);
}
