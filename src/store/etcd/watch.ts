/**
 * A watch on etcd that goes on from one session to the next:
 *
 *   1. before it goes on, it makes sure that the history is the one that it has told so far
 *   2. a stream from the next revision on, which answers when it is created
 *   3. what one transaction has changed is told at once, and never twice
 *   4. a stream that is silent is asked for its progress; one that stays silent is replaced
 *   5. a watch that is behind, and of which two streams in a row have brought nothing, is given up: whoever watches reads all
 *      again, and goes on from there. If that does not help either, the next one waits longer before it gives up
 *
 * The first of two such streams gets each answer in one piece, the second one in fragments. Cutting is what takes etcd 3.4
 * long: its time grows with the square of the number of events, so the deletion of 100,000 keys in one revision takes it a second
 * as a whole, and a quarter of a minute in fragments. But what is longer than this process accepts comes in fragments alone.
 *
 * For step 1 it is not enough to compare the cluster's id and its revision: a cluster that was emptied, or restored from a
 * snapshot, may have the same id, and its revision may have passed the last one that was told. So the watch remembers the
 * change that it has told last, and finds out whether etcd still has it at that revision: an entry must be there, and a
 * deleted one must not, but must have been there one revision before. As two histories may have the same change at the same
 * revision by chance, the record that names the history must be the one that it was, too.
 *
 * Progress answers are not used as a place to go on from: etcd 3.4 does not order them with events.
 */
import { status } from '@grpc/grpc-js';
import type { Change } from '../store.ts';
import type { Connection } from './connection.ts';
import { Failure } from './failure.ts';
import { entryOf, keyText, rangeOf } from './keys.ts';
import * as etcd from './messages.ts';
import { patiently, type Limits, type Session, type Stream } from './session.ts';

export interface WatchOptions {
  readonly connection: Connection;
  /** Of the keys in etcd. */
  readonly prefix: string;
  /** So much of each key is left out. */
  readonly skipped: number;
  readonly from: number;
  /** The history that `from` belongs to; undefined if any will do. */
  readonly history: string | undefined;
  /** The latest entry of those below the prefix at revision `from - 1`, if it is known. */
  readonly latest: Anchor | undefined;
  /** The record that names the history, as it is at revision `from - 1`, if it is below the prefix and that is known. */
  readonly name: Anchor | undefined;
  readonly limits: Pick<Limits, 'silenceMs' | 'answerMs'>;
  readonly after: (delayMs: number, work: () => void) => () => void;
  /** From 0 to 1. */
  readonly random: () => number;
  /** Common to all watches of a store. */
  readonly givenUp: WatchesGivenUp;
  readonly onChanges: (revision: number, changes: readonly Change[]) => void;
  /** It cannot go on. Nothing is told any more. */
  readonly onBroken: () => void;
}

/** What there is below the prefix at a revision. */
export interface Anchor {
  readonly key: Uint8Array;
  /** Undefined if there is none. */
  readonly entry: { readonly revision: number; readonly value: Uint8Array } | undefined;
}

/** By prefix: how many watches were given up, one after the other, as nothing came of them. */
export type WatchesGivenUp = Map<string, number>;

/** The pause before a stream is made again that etcd has refused. */
const AGAIN_MS = 500;
/** So many streams in a row that bring nothing are enough, if there is something to bring. */
const MOST_STREAMS = 2;
/** The pause before one is given up: at most half of this at first, and twice as much each time. Other hosts may be behind, too. */
const GIVE_UP_MS = { least: 1000, most: 60_000 };

export class EtcdWatch {
  readonly #options: WatchOptions;
  #next: number;
  #history: string | undefined;
  #latest: Anchor | undefined;
  #name: Anchor | undefined;
  /** Events of a response whose end has not come yet. */
  #fragments: etcd.Event[] = [];
  #stream: Stream<etcd.WatchRequest> | undefined;
  /** How many streams in a row have brought nothing. */
  #failed = 0;
  #cancelTimer = (): void => {};
  #forget: () => void;
  #isEnded = false;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#next = options.from;
    this.#history = options.history;
    this.#latest = options.latest;
    this.#name = options.name;
    this.#forget = options.connection.onSession((session) => void this.#begin(session));
  }

  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#forget();
    this.#cancelTimer();
    this.#stream?.end();
  }

  async #begin(session: Session): Promise<void> {
    this.#cancelTimer();
    this.#stream?.end();
    this.#fragments = [];
    try {
      const latest = await this.#latestIn(session);
      if (latest === undefined) return this.#break();
      if (this.#isEnded || session.isLost) return;
      if (this.#failed >= MOST_STREAMS && latest >= this.#next) return this.#giveUp();
    } catch (error) {
      const failure = Failure.of(error);
      if (failure.isCompacted) return this.#break();
      if (!session.isLost) this.#beginAgain(session, failure);
      return;
    }
    if (!this.#isEnded && !session.isLost) this.#open(session);
  }

  /** @returns etcd's revision; undefined if its history is another one @throws Failure */
  async #latestIn(session: Session): Promise<number | undefined> {
    const before = this.#next - 1;
    const read = (key: Uint8Array, revision?: number): Promise<etcd.RangeResponse> =>
      session.unary(etcd.range, { key, ...(revision !== undefined && { revision }) }, this.#options.limits.answerMs);
    const isThere = async ({ key, entry }: Anchor): Promise<boolean> =>
      isEntry((await read(key, before)).kvs[0], entry);
    const isDeletedThen = async ({ key, entry }: Anchor): Promise<boolean> =>
      entry !== undefined || (await read(key, before - 1)).kvs.length > 0;
    const [{ header }, ...areSame] = await Promise.all([
      read(Buffer.from(this.#options.prefix)),
      this.#latest ? isThere(this.#latest) : true,
      this.#latest ? isDeletedThen(this.#latest) : true,
      this.#name ? isThere(this.#name) : true,
    ]);
    if (this.#history !== undefined && this.#history !== session.history) return undefined;
    this.#history = session.history;
    const latest = header.revision.toNumber();
    return latest >= before && areSame.every((isSame) => isSame) ? latest : undefined;
  }

  #open(session: Session): void {
    const createRequest = { ...rangeOf(this.#options.prefix), startRevision: this.#next, fragment: this.#failed > 0 };
    const stream = session.stream(
      etcd.watch,
      (response) => this.#take(response, session),
      (why) => {
        this.#cancelTimer();
        if (why.isTooLong) this.#failed++;
        if (!session.isLost) this.#beginAgain(session, why);
      },
    );
    this.#stream = stream;
    stream.send({ createRequest });
    this.#expectAnswer(session);
  }

  #take(response: etcd.WatchResponse, session: Session): void {
    if (response.canceled) {
      if (response.compactRevision.toNumber() > 0) return this.#break();
      this.#stream?.end();
      return this.#beginAgain(session, new Failure(status.UNKNOWN, response.cancelReason));
    }
    this.#cancelTimer();
    this.#cancelTimer = this.#options.after(this.#options.limits.silenceMs, () => {
      this.#stream?.send({ progressRequest: {} });
      this.#expectAnswer(session);
    });
    for (const event of response.events) this.#fragments.push(event);
    if (response.fragment) return;
    const events = this.#fragments;
    this.#fragments = [];
    if (!response.created) {
      this.#failed = 0;
      this.#options.givenUp.delete(this.#options.prefix);
    }
    this.#tell(events);
  }

  #tell(events: readonly etcd.Event[]): void {
    const { onChanges, skipped } = this.#options;
    for (let at = 0; at < events.length && !this.#isEnded; ) {
      const revision = events[at]!.kv.modRevision.toNumber();
      const first = at;
      while (events[at]?.kv.modRevision.toNumber() === revision) at++;
      if (revision < this.#next) continue;
      this.#next = revision + 1;
      const made = events.slice(first, at);
      this.#latest = anchorOf(made.at(-1)!);
      const naming = made.find(({ kv }) => this.#name && Buffer.compare(kv.key, this.#name.key) === 0);
      if (naming) this.#name = anchorOf(naming);
      onChanges(
        revision,
        made.map(({ type, kv }) => ({
          key: keyText(kv.key, skipped),
          entry: type === etcd.DELETED ? undefined : entryOf(kv, skipped),
        })),
      );
    }
  }

  #expectAnswer(session: Session): void {
    const { answerMs } = this.#options.limits;
    this.#cancelTimer();
    this.#cancelTimer = patiently(this.#options.after, answerMs, () => {
      this.#failed++;
      session.lose(new Failure(status.DEADLINE_EXCEEDED, `a watch was not answered within ${answerMs / 1000} s`));
    });
  }

  /** On the same session, which etcd has refused a stream. */
  #beginAgain(session: Session, why: Failure): void {
    if (this.#isEnded) return;
    this.#cancelTimer();
    // A token that has expired, or a right that was taken away: whatever it is, the probe finds out.
    session.probe();
    if (why.isLoss && why.status !== status.UNKNOWN) return session.lose(why);
    this.#cancelTimer = this.#options.after(AGAIN_MS, () => {
      if (!session.isLost) void this.#begin(session);
    });
  }

  #giveUp(): void {
    const { after, prefix, random, givenUp } = this.#options;
    const rounds = givenUp.get(prefix) ?? 0;
    givenUp.set(prefix, rounds + 1);
    const mostMs = Math.min(GIVE_UP_MS.most, GIVE_UP_MS.least * 2 ** (rounds - 1));
    this.#forget();
    this.#cancelTimer = after(mostMs * (0.5 + random() / 2), () => this.#break());
  }

  #break(): void {
    if (this.#isEnded) return;
    this.end();
    this.#options.onBroken();
  }
}

function isEntry(there: etcd.KeyValue | undefined, entry: Anchor['entry']): boolean {
  if (!there || !entry) return !there && !entry;
  return there.modRevision.toNumber() === entry.revision && Buffer.compare(there.value, entry.value) === 0;
}

/** A copy, because the bytes of an event belong to the whole response. */
function anchorOf({ type, kv }: etcd.Event): Anchor {
  const { key, value, modRevision } = kv;
  const entry = type === etcd.DELETED ? undefined : { revision: modRevision.toNumber(), value: Uint8Array.from(value) };
  return { key: Uint8Array.from(key), entry };
}
