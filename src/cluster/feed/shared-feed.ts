/**
 * The feed of a host whose store is shared with others. What is in force never depends on that store.
 *
 *   first     what the store says; if it does not answer soon, this host's copy; if there is none, the feed waits
 *   watch     each change is in force when it is reported, and noted in the copy (`store-following.ts`)
 *   listing   after a break, all of it is compared with what is known, and what differs is judged record by record
 *             (`judgement.ts`). Records that are known at the same revision are not read once more, as long as the store is the
 *             one that it was
 *   audit     every few minutes it is compared although nothing was missed. What differs then was lost on its way from the
 *             store: it is counted, and mended
 *   evidence  what this host writes is not reported, or is refused for what is not as it is known here: it is read again or
 *             compared at once. A store that answers and is not followed for long is told (`feed-monitor.ts`)
 *   away      this host's own records can be written: they are kept (`shared-writer.ts`), and written when the store is back
 *             (`own-writes.ts`). A record that somebody else has changed meanwhile is overwritten only if it still is this
 *             host's, and an endpoint whose address or MAC is another's by now is given up: what the store has is in force on
 *             all other hosts, and so no address and no name ever has two owners
 *   strange   the store was restored, emptied or exchanged (`store-identity.ts`): nothing that it has lost or reverted is put
 *             into force, this host's own records are written again, and new changes by anybody count. What is held is told,
 *             until `accept` puts into force what the store says, or the resources are applied again
 *   barred    this host may be another one's copy, or has what another one has (`registration.ts`): it writes nothing, and keeps
 *             its own records until that is decided
 *   refused   the store is that of another cluster or of a newer version: nothing is taken from it or written to it
 *
 * The store is read beside everything else, and compared in turns of the event loop. Calls of `next` do not overlap, and only
 * they change what is known, except for what is written here.
 */
import { WeftError } from '../../error.ts';
import type { KindDefinition } from '../../model/kinds/kind.ts';
import { someOf } from '../../model/name.ts';
import type { AcceptReport, SharedStoreReport } from '../../model/report.ts';
import { placeName } from '../../model/store-config.ts';
import type { Change, Entry, Store, Transaction } from '../../store/store.ts';
import { FeedMonitor } from './feed-monitor.ts';
import type { Feed, News } from './feed.ts';
import { firstNews, listedNews } from './first-news.ts';
import { isOfState, judgeEvent, latestIn, leadsAway } from './event-judgement.ts';
import { compareListing } from './listing-comparison.ts';
import { lossesBy } from './losses.ts';
import { keysOf, MadeWrites } from './made-writes.ts';
import { OwnWrites } from './own-writes.ts';
import { SharedState } from './shared-state.ts';
import { SharedWriter, unreachable } from './shared-writer.ts';
import { StoreAudit } from './store-audit.ts';
import { StoreBehindFeed } from './store-behind-feed.ts';
import { FORMAT_KEY } from './store-identity.ts';
import { StoreFollowing, type Judged, type Listed } from './store-following.ts';
import { Told } from './told.ts';
import { StoreUse } from './store-use.ts';
import { StoreIdentification, type Identified } from './store-identification.ts';
import type { StorePlace } from './store-place.ts';

export interface SharedFeedEnvironment {
  readonly store: Store;
  /** Where it is: the members of etcd, and under which prefix they have the keys of all hosts that share it. */
  readonly place: StorePlace;
  /** The store of this host alone. */
  readonly own: Store;
  /** The name of this host. */
  readonly host: string;
  /** Of this host, hexadecimal. */
  readonly id: string;
  readonly copyFile: string;
  /** Another daemon of this host has followed the store until just now, and nobody forwards before this one has begun. */
  readonly isContinued: boolean;
  /** Why this host must not write to the store although it answers; undefined if it may. */
  readonly whyBarred: () => string | undefined;
  /** Whether that has been decided once: until then, what this host wrote while the store was away waits. */
  readonly isDecided: () => boolean;
  /** Returns a random text for a new cluster. */
  readonly newId: () => string;
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  readonly logger: Readonly<Record<'info' | 'warn' | 'error', (details: object, message: string) => void>>;
}

/** How long a start waits for the store before it takes the copy; also if that is what has been in force until just now. */
const FIRST_ANSWER_MS = { usual: 1000, continued: 100 };
/** How long a writer waits for the watch to report what the store has made. */
const REPORTED_MS = 1000;
/** How long a change waits for what the store says, at most. */
const READ_MS = 3000;
/** How often `tick` is called. */
const TICK_MS = 1000;
/** How many ticks pass between two audits: from the first to the second number. */
const AUDIT_TICKS = [240, 360] as const;
/** How many ticks pass until a store that is refused, or that refuses, is tried again. */
const RETRY_TICKS = 5;
const CANNOT_READ = 'the store cannot be read';
const CANNOT_WRITE = 'the store cannot be written';
const CANNOT_NOTE_PLACE = 'where the store is followed cannot be noted';
const CANNOT_NOTE = 'what this host wrote is stored, and that cannot be noted';
const NOT_STORED = 'what this host wrote while the store was away is not stored yet';

export class SharedFeed implements Feed {
  readonly store: Store;
  readonly #environment: SharedFeedEnvironment;
  readonly #identification: StoreIdentification;
  readonly #writer: SharedWriter;
  readonly #ownWrites: OwnWrites;
  #waitsForDecision = false;
  readonly #following: StoreFollowing;
  readonly #monitor: FeedMonitor;
  readonly #audit = new StoreAudit();
  readonly #made = new MadeWrites();
  #state!: SharedState;
  #onNews = (): void => {};
  /** Until something was given out, nothing is known. */
  #isGiven = false;
  /** What is in force without the store having reported it. */
  readonly #ownNews: News[] = [];
  /** Something was given out that was written here: whoever did is told when it is in force, and then it must survive this daemon. */
  #isOwnGiven = false;
  readonly #told: Told;
  #stopHealth = (): void => {};
  #stopTicks = (): void => {};
  #ticks = 0;
  #ticksToAudit: number = AUDIT_TICKS[0];
  readonly #use: StoreUse;
  /** What is lost here if this host joins, or has just joined, the cluster of the store. */
  #losses: Readonly<AcceptReport['accepted']> = [];
  /** What is accepted at the moment: that the store is that of another cluster, or that it is elsewhere and has nothing. */
  #accepting: 'cluster' | 'place' | undefined;
  /** What fails at the moment, and why. */
  readonly #failures = new Map<string, string>();
  #isClosed = false;
  /** How often revisions have begun anew. */
  #restarts = 0;

  constructor(environment: SharedFeedEnvironment) {
    this.#environment = environment;
    const { store, place, host, newId, logger } = environment;
    const { prefix } = place;
    const state = (): SharedState => this.#state;
    const onLost = (why: string): void => logger.warn({}, why);
    this.#identification = new StoreIdentification(store, place, newId, (cluster) =>
      logger.info({ cluster, prefix }, 'the store had nothing under its prefix: a cluster begins there'),
    );
    this.#ownWrites = new OwnWrites({
      ...{ store, state, host, onLost },
      restoredAt: () => this.#restoredAt,
      onChanges: (changes) => this.#give(changes),
    });
    this.#writer = new SharedWriter({
      ...{ store, state, host },
      waitsFor: () => this.waitsFor(),
      refusal: () => this.#use.whyNotWritten,
      isBehind: () => this.#ownWrites.isDue,
      onKept: (changes) => this.#give(changes),
      onMade: (transaction, revision) => this.#noteMade(transaction, revision),
      onConflict: (expect) => this.#monitor.doubt(expect),
    });
    this.#following = new StoreFollowing({
      store,
      least: () => this.#made.newest,
      knownKey: () => (this.#accepting || this.#use.refusal ? undefined : this.#state.knownKey),
      onNews: () => {
        if (!this.#isClosed) this.#onNews();
      },
      onTold: () => {
        this.#told.tell();
      },
      onRead: () => void this.#failures.delete(CANNOT_READ),
      onUnread: (error) => this.#tellFailure(error, CANNOT_READ),
      onWatching: (revision) => {
        this.#made.reported(revision);
        this.#audit.forget();
      },
    });
    this.#monitor = new FeedMonitor({
      ...{ wallClock: this.#environment.wallClock, logger },
      told: () => this.#following.told,
      made: () => this.#made.newestPut,
      isStored: ({ key, revision }) => this.#state.storedAt(key) === revision,
    });
    this.#told = new Told(environment.after);
    this.#use = new StoreUse({ ...environment, state });
    this.store = new StoreBehindFeed(store, this);
  }

  /** @throws WeftError also if the state of this host is that of one with another name, and would be in force */
  async start(onNews: () => void): Promise<void> {
    const { store, own, host, id, copyFile, isContinued, after, logger } = this.#environment;
    this.#state = await SharedState.open({ own, host, copyFile, onWarning: (message) => logger.warn({}, message) });
    let isLate = false;
    const late = new Promise<boolean>((resolve) => {
      const { usual, continued } = FIRST_ANSWER_MS;
      this.#stopTicks = after(isContinued && this.#state.copied ? continued : usual, () => resolve((isLate = true)));
    });
    this.#stopHealth = store.onHealth(() => this.#onHealth());
    void this.#following.read();
    await this.#takeAllRead(late, () => isLate || this.#isGiven);
    this.#stopTicks();
    if (!this.#isGiven && this.#state.copied) {
      const why = this.waitsFor()!.message;
      this.#state.checkCopied(id, why);
      logger.warn({ why, revision: this.#state.mark?.revision }, 'the copy of the cluster’s state is put into force');
      this.#ownNews.push(this.#first([]));
    }
    this.#onNews = onNews;
    this.#nextTick();
  }

  /** Whoever begins the store, or is the first to see that it was restored, lists it twice. @param isEnough ends it before */
  async #takeAllRead(late?: Promise<unknown>, isEnough = (): boolean => false): Promise<void> {
    while (this.#following.reading && !isEnough()) {
      await Promise.race([this.#following.reading, ...(late ? [late] : [])]);
      const news = await this.#takeListing();
      if (news) this.#ownNews.push(news);
    }
  }

  waitsFor(): WeftError | undefined {
    if (this.#isGiven) return undefined;
    const why =
      this.#use.refusal ??
      unreachable(this.#environment.store) ??
      new WeftError('unreachable', this.#failures.get(CANNOT_WRITE) ?? 'the store has not answered yet');
    return new WeftError(why.code, `${why.message}: weft goes on when it can be used`, { cause: why });
  }

  async next(): Promise<News | undefined> {
    for (;;) {
      await this.#keep();
      const news = this.#ownNews.shift() ?? (await this.#takeListing()) ?? (await this.#takeEvent());
      if (news) return news;
      await this.#takeAudited();
      if (!(await this.#makeUp())) return undefined;
    }
  }

  /** Whatever `next` has returned is in force by now, and judged: that is written into the copy. */
  async #keep(): Promise<void> {
    if (this.#ownNews.length > 0) return;
    this.#state.keep();
    if (!this.#isOwnGiven) return;
    this.#isOwnGiven = false;
    await this.#state.flushed().catch((error: unknown) => this.#tellFailure(error, 'the copy is behind'));
  }

  async caughtUp(revision: number): Promise<void> {
    const { store } = this.#environment;
    const restarts = this.#restarts;
    while (this.#following.told < revision && !this.#made.isGiven(revision) && this.#restarts === restarts) {
      const isOwn = this.#made.isAwaited(revision);
      const isSilent = !store.health().isReachable;
      if (isOwn && (isSilent || !this.#following.isWatching)) return this.#giveMade(revision);
      if (isSilent) return;
      if (!(await this.#told.within(REPORTED_MS)) && isOwn) this.#giveMade(revision);
    }
  }

  async readable(): Promise<void> {
    while (this.#use.isUnread) if (!(await this.#told.within(READ_MS))) return;
  }

  async knows(revision: number): Promise<boolean> {
    const restarts = this.#restarts;
    while (this.#following.isWatching && this.#restarts === restarts) {
      if (this.#following.told >= revision) return true;
      if (!(await this.#told.within(READ_MS))) return false;
    }
    return false;
  }

  mustWait(): string | undefined {
    return this.#use.whyNot?.message;
  }

  kept(): Promise<void> {
    return this.#state.kept();
  }

  judged(entry: Entry, isAccepted: boolean): void {
    this.#state.judged(entry, isAccepted);
  }

  async ask(): Promise<void> {
    const { store } = this.#environment;
    const why = this.#use.whyNot ?? unreachable(store);
    if (why) throw why;
    await store.get(FORMAT_KEY).catch((error: unknown) => {
      throw unreachable(store) ?? error;
    });
  }

  async get(key: string): Promise<Entry | undefined> {
    const { pending, known, held } = this.#state;
    const record = known.get(key);
    const own = record?.value && { key, value: record.value, revision: record.revision };
    const why = this.#use.whyNot ?? unreachable(this.#environment.store);
    if (own && why) return own;
    if (pending.has(key) || (own && held.has(key))) return own;
    if (why) throw why;
    const entry = await this.#environment.store.get(key);
    return entry && record?.stored === entry.revision ? { ...entry, revision: record.revision } : entry;
  }

  transact(transaction: Transaction): Promise<number> {
    return this.#writer.transact(transaction);
  }

  failure(kind: KindDefinition, name: string): WeftError | undefined {
    return this.#state.failure(kind, name);
  }

  /**
   * Puts into force what the store says: what is held, or everything if the store is that of another cluster, which this host
   * belongs to from then on. What was given up is not told any more, but for by what this returns. Does nothing if there is
   * nothing to accept. Call within `serial`, and `next` afterwards.
   * @throws WeftError if the store cannot be reached, or is of a newer version
   */
  async accept(): Promise<AcceptReport> {
    const { store, logger } = this.#environment;
    const why = unreachable(store);
    if (why) throw why;
    if (this.#use.refusal) return this.#acceptOther();
    const { held, lost } = this.#state.report();
    this.#state.forgetLost();
    const told = { accepted: held, ...(lost.length > 0 && { lost }) };
    const changes = [...this.#state.held].map(([key, entry]) => ({ key, entry }));
    for (const change of changes) this.#state.take(change);
    if (changes.length === 0) return told;
    logger.warn({ records: held.length }, 'what the store says is accepted');
    this.#reached(0);
    this.#give(changes);
    return told;
  }

  report(): SharedStoreReport {
    const { isReachable, since, why, takesNothing } = this.#environment.store.health();
    const { runs, mismatches } = this.#audit;
    return {
      cluster: this.#state?.id ?? null,
      prefix: this.#environment.place.prefix,
      reachable: isReachable,
      ...(why !== undefined && { why }),
      ...(since !== undefined && { since: new Date(since).toISOString() }),
      revision: this.#state?.mark?.revision ?? 0,
      ...(this.#use.refusal && { refused: this.#use.refusal.message, losses: [...this.#losses] }),
      ...(takesNothing !== undefined && { takesNothing }),
      ...(this.#monitor.notFollowed && { notFollowed: this.#monitor.notFollowed }),
      ...(this.#state?.report() ?? { pending: [], lost: [], signs: [], held: [] }),
      audit: { runs, mismatches },
    };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stopTicks();
    this.#stopHealth();
    this.#following.close();
    await this.#state?.close();
  }

  /** Called about once a second: tries again what is due, and audits every few minutes. */
  tick(): void {
    const { store, wallClock } = this.#environment;
    const isRetry = ++this.#ticks % RETRY_TICKS === 0;
    if (isRetry) this.#state.tick();
    const isDue = store.health().isReachable && (isRetry || !this.#use.refusal);
    // A store that is away, or that must not be followed, is told otherwise.
    const isExpected = isDue && this.#use.refusal === undefined;
    const advice = this.#monitor.tick(isExpected ? this.#following.why : undefined, this.#following.isWatching);
    this.#following.tick(isDue);
    if (!store.health().isReachable) return;
    if (advice === 'read') this.#following.lose();
    this.#audit.tick();
    const mayMakeUp = this.#waitsForDecision ? this.#environment.isDecided() : isRetry;
    if (this.#audit.isWaiting || (mayMakeUp && this.#ownWrites.isDue)) this.#onNews();
    if (--this.#ticksToAudit > 0 && advice !== 'audit') return;
    const [least, most] = AUDIT_TICKS;
    this.#ticksToAudit = least + (wallClock() % (most - least));
    this.audit();
  }

  /** Reads all that the store has, to compare it with what is known. */
  audit(): void {
    if (!this.#audit.isWaiting) void this.#following.audit();
  }

  #nextTick(): void {
    this.#stopTicks = this.#environment.after(TICK_MS, () => {
      this.tick();
      if (!this.#isClosed) this.#nextTick();
    });
  }

  #onHealth(): void {
    this.#told.tell();
    if (!this.#environment.store.health().isReachable) return;
    // What this host wrote is compared with all that the others did meanwhile.
    if (this.#ownWrites.isDue) this.#following.lose();
    else this.#following.tick(true);
  }

  /** Judges what was read, and follows the store from there. */
  async #takeListing(): Promise<News | undefined> {
    let news: News | undefined;
    await this.#following.take(async (listed) => {
      const judged = await this.#judgeListing(listed);
      if (typeof judged === 'object' && 'news' in judged) news = judged.news;
      return judged;
    });
    return news;
  }

  async #judgeListing(listed: Listed): Promise<Judged | { readonly revision: number; readonly news: News }> {
    const { listing } = listed;
    const { host, logger, place, wallClock } = this.#environment;
    const state = this.#state;
    const identified = await this.#identify(listed);
    if (identified === 'again' || 'why' in identified) return identified;
    const { epoch, signs } = identified;
    const isJoining = this.#accepting === 'cluster' || state.isJoining;
    const isOther = signs.length > 0 || isJoining;
    if (listing.known.length > 0 && (isOther || !state.knownKey)) return 'again';
    const before = state.strange;
    if (signs.length > 0) logger.error({ signs }, 'the store is not what it was: what it has lost or reverted is held');
    const strange =
      signs.length > 0
        ? { signs: [...new Set([...(before?.signs ?? []), ...signs])], sinceMs: before?.sinceMs ?? wallClock() }
        : before;
    const made = signs.length > 0 ? this.#restart() : [];
    this.#losses = this.#accepting === 'cluster' ? await lossesBy(host, state, listing) : [];
    const { history, revision } = listing;
    const { changes, write, lost } = await compareListing({
      ...{ state, host, listing, isJoining },
      restoredAt: strange && epoch.revision,
      newer: this.#made.newerThan(revision),
      onLost: (why) => logger.warn({}, why),
      onUnsettled: (error) => this.#tellFailure(error, CANNOT_NOTE),
    });
    this.#ownWrites.add(write);
    state.commit({ id: state.id!, epoch, history, revision, ...(strange && { strange }) });
    await state.settlePending(lost).catch((error: unknown) => this.#tellFailure(error, CANNOT_NOTE));
    this.#reached(revision);
    await state.followAt(place).catch((error: unknown) => this.#tellFailure(error, CANNOT_NOTE_PLACE));
    this.#accepting = undefined;
    state.isCompared = true;
    const news = this.#isGiven ? listedNews(state, listing, changes, made) : this.#first(changes);
    return { revision, news: { ...news, listed: isOther ? { latest: latestIn(listing) } : {} } };
  }

  /** Revisions begin anew. @returns what this host has made before, and nobody has put into force yet */
  #restart(): Change[] {
    this.#restarts++;
    const made = this.#made.restart((key, revision) => this.#isNewest(key, revision));
    for (const change of made) this.#state.take(change);
    return made;
  }

  async #identify({ listing, least }: Listed): Promise<Identified | 'again' | { readonly why: string }> {
    try {
      const identified = await this.#identification.identify(
        this.#state,
        listing,
        least,
        this.#accepting !== undefined,
      );
      this.#use.refusal = undefined;
      this.#failures.delete(CANNOT_WRITE);
      return identified ?? 'again';
    } catch (error) {
      const { message } = error as Error;
      if (!(error instanceof WeftError) || error.code !== 'state') {
        this.#tellFailure(error, CANNOT_WRITE);
        return { why: message };
      }
      if (this.#use.refusal?.message !== message) this.#environment.logger.error({}, message);
      this.#use.refusal = error;
      const { isOther } = this.#identification;
      this.#losses = isOther ? await lossesBy(this.#environment.host, this.#state, listing) : [];
      return { why: message };
    }
  }

  /** The first of what the watch has reported. */
  async #takeEvent(): Promise<News | undefined> {
    const event = this.#following.takeEvent();
    if (!event) return undefined;
    if (leadsAway(this.#state, event)) {
      // Whoever deletes the format may have deleted everything: what is left is compared, and what it has lost is held.
      this.#following.loseEvents();
      return undefined;
    }
    const [{ revision }, { host, logger }] = [event, this.#environment];
    const isOwn = this.#made.reported(revision);
    const changes = judgeEvent(this.#state, event, isOwn, host, (why) => logger.warn({}, why));
    this.#reached(revision);
    this.#isOwnGiven ||= isOwn;
    return { revision, changes, madeAt: revision, isOfState: isOfState(event) };
  }

  async #takeAudited(): Promise<void> {
    const listing = this.#following.takeAudited();
    const { mark } = this.#state;
    if (!mark || !this.#following.isWatching) return;
    if (listing && (listing.history !== mark.history || listing.revision < mark.revision))
      return this.#following.lose();
    if (listing) await this.#audit.compare(this.#state, listing, this.#made.newerThan(listing.revision));
    const lost = this.#audit.judge(this.#state, mark.revision);
    if (lost.length === 0) return;
    this.#environment.logger.error({ records: someOf(lost) }, 'the store did not report changes: they are mended');
    this.#following.lose();
  }

  /** Writes some of what the store does not have of this host. @returns true if there may be more to do */
  async #makeUp(): Promise<boolean> {
    if (!this.#ownWrites.isDue || !this.#isGiven || !this.#following.isWatching) return false;
    const { store, isDecided } = this.#environment;
    this.#waitsForDecision = !isDecided();
    if (this.#waitsForDecision || this.#use.whyNotWritten || unreachable(store)) return false;
    try {
      await this.#ownWrites.run();
      this.#failures.delete(NOT_STORED);
      this.#reached(0);
      return true;
    } catch (error) {
      this.#tellFailure(error, NOT_STORED);
      return false;
    }
  }

  async #acceptOther(): Promise<AcceptReport> {
    const { store, place, logger } = this.#environment;
    const [before, { isOther }] = [this.#state.id, this.#identification];
    // One that is under way may leave out what counts from here on.
    this.#accepting = isOther ? 'cluster' : 'place';
    void this.#following.read();
    await this.#takeAllRead();
    this.#accepting = undefined;
    if (this.#use.refusal) throw this.#use.refusal;
    if (!this.#following.isWatching)
      throw unreachable(store) ?? new WeftError('unreachable', 'the store does not answer: try again');
    const { id: cluster, held } = this.#state;
    if (!isOther) {
      const follows = placeName(place);
      logger.warn({ store: follows, held: held.size }, 'the store is followed where it is now');
      return { accepted: [], follows };
    }
    if (cluster === before || cluster === undefined) return { accepted: [] };
    const accepted = [...this.#losses];
    logger.warn({ before, cluster, records: accepted.length }, 'this host belongs to another cluster now');
    return { accepted, cluster };
  }

  /** What the cluster gets first. */
  #first(changes: readonly Change[]): News {
    this.#isGiven = true;
    return firstNews(this.#state, changes);
  }

  #give(changes: readonly Change[], madeAt?: number): void {
    const revision = this.#state.mark?.revision ?? 0;
    this.#ownNews.push({ revision, changes, ...(madeAt !== undefined && { madeAt }) });
    this.#onNews();
  }

  #noteMade(transaction: Transaction, revision: number): void {
    this.#made.add(revision, transaction);
    const keys = keysOf(transaction);
    // What deletes a record that the store has lost changes nothing there, and is never reported.
    const isNoChange = !transaction.put?.length && keys.every((key) => this.#state.storedAt(key) === 0);
    if (keys.some((key) => this.#state.held.has(key))) this.#giveMade(revision, isNoChange);
  }

  #giveMade(revision: number, isNoChange = false): void {
    const news = this.#made.give(revision).filter(({ key }) => this.#isNewest(key, revision));
    if (news.length === 0) return;
    for (const change of news) this.#state.take(change);
    this.#isOwnGiven = true;
    this.#reached(0);
    this.#give(news, isNoChange ? undefined : revision);
  }

  /** Nothing later is known of a record than what was made for this host at that revision. */
  #isNewest(key: string, revision: number): boolean {
    return this.#state.storedAt(key) < revision && !this.#state.pending.has(key);
  }

  /** Everything up to this revision is in force. */
  #reached(revision: number): void {
    this.#state.reached(revision, this.#state.held.size === 0 && !this.#ownWrites.isDue);
  }

  get #restoredAt(): number | undefined {
    const { strange, mark } = this.#state;
    return strange && mark?.epoch.revision;
  }

  #tellFailure(error: unknown, what: string): void {
    const { message } = error as Error;
    if (this.#isClosed || message === this.#failures.get(what)) return;
    this.#failures.set(what, message);
    this.#environment.logger.warn({ why: message }, what);
  }
}
