/**
 * How a host follows a shared store: it reads all, judges that, and watches from there.
 *
 *   waiting    the store could not be read, or must not be followed. The next tick reads it
 *   reading    until the store has answered
 *   read       until whoever takes the news judges it. The next tick asks for that once more
 *   judging    until that is done
 *   watching   until track is lost, which makes it read all again
 *
 * It is in exactly one of these states, and each of them has somebody who leads on from it: there is no way to do nothing.
 * Whatever answers to a state that it has left is void. While the store is watched, it may be read besides, for an audit.
 */
import type { KnownKey, Listing, Store } from '../../store/store.ts';
import type { ReportedChanges } from './event-judgement.ts';

/** How many changes may wait to be put into force; beyond that, all is listed again. */
const MOST_WAITING = 100_000;

/** What was read. */
export interface Listed {
  readonly listing: Listing;
  /** The store was at this revision when the listing was asked for, or later. */
  readonly least: number;
}

/** What follows from what was read: it is watched from a revision on, it is read again as a whole, or tried again later. */
export type Judged = { readonly revision: number } | 'again' | { readonly why: string };

type State =
  | { readonly kind: 'waiting'; readonly why: string }
  | { readonly kind: 'reading'; isStale: boolean; readonly done: Promise<void> }
  | { readonly kind: 'read'; readonly listed: Listed }
  | { readonly kind: 'judging'; isStale: boolean }
  | { readonly kind: 'watching'; readonly stop: () => void; isAuditing: boolean; audited?: Listing };

export interface FollowingEnvironment {
  readonly store: Store;
  /** The store is at this revision, or later. */
  readonly least: () => number;
  /** As in `Store.list`. */
  readonly knownKey: () => KnownKey | undefined;
  /** There is something to take. */
  readonly onNews: () => void;
  /** Changes were reported up to `told`, or none will be. */
  readonly onTold: () => void;
  readonly onRead: () => void;
  readonly onUnread: (error: unknown) => void;
  /** It is watched from the revision after this one on. */
  readonly onWatching: (revision: number) => void;
}

export class StoreFollowing {
  readonly #environment: FollowingEnvironment;
  #state: State = { kind: 'waiting', why: 'it was not read yet' };
  #events: ReportedChanges[] = [];
  /** How many changes are in `#events`. */
  #waiting = 0;
  /** The last revision that the watch has reported. */
  told = 0;
  /** What is read next has to have everything, as the last listing left out what has to be judged, too. */
  #mustReadAll = false;
  #isClosed = false;

  constructor(environment: FollowingEnvironment) {
    this.#environment = environment;
  }

  get isWatching(): boolean {
    return this.#state.kind === 'watching';
  }

  /** Set while all is being read to follow the store from there. */
  get reading(): Promise<void> | undefined {
    return this.#state.kind === 'reading' ? this.#state.done : undefined;
  }

  /** Why the store is not watched; undefined if it is. */
  get why(): string | undefined {
    switch (this.#state.kind) {
      case 'waiting':
        return this.#state.why;
      case 'reading':
        return 'it is being read';
      case 'read':
        return 'what was read waits until this host has finished a change';
      case 'judging':
        return 'what was read is being compared';
      case 'watching':
        return undefined;
      default:
        return this.#state satisfies never;
    }
  }

  /** Leads on from a state that nobody else leads on from. @param mayRead false if that is not due yet */
  tick(mayRead: boolean): void {
    if (this.#state.kind === 'waiting' && mayRead) void this.read();
    if (this.#state.kind === 'read') this.#environment.onNews();
  }

  /** What was read before, or is being read or judged, may be older than what counts: all is read again. */
  lose(): void {
    switch (this.#state.kind) {
      case 'reading':
      case 'judging':
        this.#state.isStale = true;
        break;
      case 'watching':
      case 'read':
      case 'waiting':
        void this.read();
        break;
      default:
        this.#state satisfies never;
    }
    this.#environment.onTold();
  }

  /** Reads all from now on, whatever was under way. @returns when it has been read, or could not be */
  read(): Promise<void> {
    if (this.#state.kind === 'watching') this.#state.stop();
    if (this.#isClosed) return Promise.resolve();
    let end = (): void => {};
    const done = new Promise<void>((resolve) => (end = resolve));
    const state: State = { kind: 'reading', isStale: false, done };
    this.#state = state;
    void this.#read(state).finally(end);
    return done;
  }

  async #read(state: State & { readonly kind: 'reading' }): Promise<void> {
    const { store, least: leastNow, knownKey, onNews, onRead, onUnread } = this.#environment;
    let next: State;
    try {
      const least = leastNow();
      const listing = await store.list('', undefined, this.#mustReadAll ? undefined : knownKey());
      next = { kind: 'read', listed: { listing, least } };
      onRead();
    } catch (error) {
      next = { kind: 'waiting', why: (error as Error).message };
      onUnread(error);
    }
    if (this.#state !== state || this.#isClosed) return;
    if (state.isStale) return void this.read();
    this.#state = next;
    onNews();
  }

  /** Judges what was read, if something was, and goes on as that says. @throws what `judge` throws; then it is tried again */
  async take(judge: (listed: Listed) => Promise<Judged>): Promise<void> {
    if (this.#state.kind !== 'read') return;
    const { listed } = this.#state;
    const state: State = { kind: 'judging', isStale: false };
    this.#state = state;
    let judged: Judged = { why: 'what was read could not be compared' };
    try {
      judged = await judge(listed);
    } finally {
      if (this.#state === state) this.#goOn(judged, state.isStale);
    }
  }

  #goOn(judged: Judged, isStale: boolean): void {
    if (judged === 'again') this.#mustReadAll = true;
    else if ('revision' in judged) this.#mustReadAll = false;
    if (judged === 'again' || isStale) return void this.read();
    if ('why' in judged) this.#state = { kind: 'waiting', why: judged.why };
    else this.#watch(judged.revision);
  }

  #watch(from: number): void {
    const { store, onWatching, onTold, onNews } = this.#environment;
    if (this.#isClosed) return;
    this.#events = [];
    this.#waiting = 0;
    this.told = from;
    onTold();
    onWatching(from);
    const stop = store.watch('', from + 1, (event) => {
      if (this.#state !== state) return;
      if (event.kind === 'compacted') return this.lose();
      this.#events.push(event);
      this.#waiting += event.changes.length;
      this.told = event.revision;
      onTold();
      if (this.#waiting > MOST_WAITING) this.lose();
      onNews();
    });
    const state: State = { kind: 'watching', stop, isAuditing: false };
    this.#state = state;
  }

  /** The first of what the watch has reported. */
  takeEvent(): ReportedChanges | undefined {
    const event = this.#events.shift();
    if (event) this.#waiting -= event.changes.length;
    return event;
  }

  /** What it has reported further is not taken: all is read again. */
  loseEvents(): void {
    this.#events = [];
    this.lose();
  }

  /** Reads all that the store has, to compare it with what is known. */
  async audit(): Promise<void> {
    const state = this.#state;
    const { store, knownKey, onNews, onRead, onUnread } = this.#environment;
    if (state.kind !== 'watching' || state.isAuditing) return;
    state.isAuditing = true;
    try {
      state.audited = await store.list('', undefined, knownKey());
      onRead();
    } catch (error) {
      onUnread(error);
    } finally {
      state.isAuditing = false;
    }
    if (this.#state === state) onNews();
  }

  /** What was read for an audit. */
  takeAudited(): Listing | undefined {
    if (this.#state.kind !== 'watching') return undefined;
    const { audited } = this.#state;
    delete this.#state.audited;
    return audited;
  }

  close(): void {
    this.#isClosed = true;
    if (this.#state.kind === 'watching') this.#state.stop();
  }
}
