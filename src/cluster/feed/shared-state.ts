/**
 * What a host knows of a shared store: what is in force, where that is not what the store has, and the copy of it.
 *
 * `known` is what is in force. A key of `held` is one where the store has something else, and nobody has decided yet what
 * counts. Everything here changes together with what the cluster is told.
 */
import { WeftError } from '../../error.ts';
import type { KindDefinition } from '../../model/kinds/kind.ts';
import type { HeldRecordReport } from '../../model/held.ts';
import type { SharedStoreReport } from '../../model/report.ts';
import { placeName } from '../../model/store-config.ts';
import type { Change, Entry, KnownKey, Store } from '../../store/store.ts';
import { inTurns } from '../../turns.ts';
import { keyOf, nameOfKey } from '../keys.ts';
import { refuseForeignCopy, refuseForeignWrites } from './host-name.ts';
import { digestOf, isOwnedBy, type KnownRecord } from './known-records.ts';
import { PendingWrites } from './pending-writes.ts';
import { StateCopy, type Copied } from './state-copy.ts';
import type { StoreMark, Strangeness } from './store-identity.ts';
import { notePlace, placeBefore, type StorePlace } from './store-place.ts';

/** The key of `own` that names the cluster that this host belongs to. */
export const CLUSTER_KEY = 'cluster';
/** How many records of the copy are entered in one turn; takes some milliseconds. */
const READ_PER_TURN = 256;
/** How many lost writes are remembered. */
const MOST_LOST = 100;

/** For a cluster that knows nothing yet. */
interface CopiedState {
  readonly entries: ReadonlyMap<string, Entry>;
  /** As in `News`. */
  readonly before: ReadonlyMap<string, readonly Entry[]>;
  /** The keys of those of `entries` that were not accepted. */
  readonly refused: ReadonlySet<string>;
}

export class SharedState {
  readonly known = new Map<string, KnownRecord>();
  /** What the store has where that is not in force. */
  readonly held = new Map<string, Entry | undefined>();
  readonly pending: PendingWrites;
  /** Writes that were given up, and why, by key. */
  readonly #lost = new Map<string, string>();
  readonly #host: string;
  readonly #own: Store;
  readonly #copy: StateCopy<StoreMark>;
  /** The cluster that this host belongs to; undefined until it has met one. */
  id: string | undefined;
  mark: StoreMark | undefined;
  /** Where this host has followed the store of that cluster, as far as that was noted. */
  place: StorePlace | undefined;
  /** What is known is of the cluster before: this host has begun to change to another one, and was killed meanwhile. */
  isJoining = false;
  /** What was in force when the last daemon ended, until somebody takes it. */
  copied: Map<string, Entry> | undefined;
  /** What may have been in force then instead of records that that daemon did not accept, by key: the last one first. */
  #before: ReadonlyMap<string, readonly Entry[]> = new Map();
  #refused: ReadonlySet<string> = new Set();
  /** Something is noted that the copy does not have yet. */
  #isToKeep = false;
  /** What was wrong with the copy at the start. */
  #damage: Copied<StoreMark>['damage'];
  /** The store has been compared with it since the start. */
  isCompared = false;
  /** How often a record has ceased to be in force. */
  removals = 0;
  #changes = 0;

  private constructor(host: string, own: Store, pending: PendingWrites, copy: StateCopy<StoreMark>) {
    this.#host = host;
    this.#own = own;
    this.pending = pending;
    this.#copy = copy;
  }

  /** Reads what the last daemon of this host has left. @throws WeftError if that was a host with another name */
  static async open(options: {
    readonly host: string;
    readonly own: Store;
    readonly copyFile: string;
    readonly onWarning: (message: string) => void;
  }): Promise<SharedState> {
    const { host, own, copyFile, onWarning } = options;
    const pending = new PendingWrites(own);
    await pending.load();
    refuseForeignWrites(host, pending.all());
    const { copy, mark, entries, before, refused, damage } = await StateCopy.open<StoreMark>(copyFile, onWarning);
    const state = new SharedState(host, own, pending, copy);
    state.#damage = damage;
    const id = (await own.get(CLUSTER_KEY))?.value as string | undefined;
    state.id = id;
    state.place = id === undefined ? undefined : await placeBefore(own);
    if (!mark || id === undefined) {
      for (const { key, base, value } of pending.all()) state.written(key, value, base);
      return state;
    }
    // The copy is that of the cluster before if the daemon was killed while this host changed to this one.
    if (mark.id === id) state.mark = mark;
    else state.isJoining = true;
    const copied = new Map<string, Entry>();
    const [others, notAccepted] = [new Map(before), new Set(refused)];
    for await (const entry of inTurns(entries.values(), READ_PER_TURN)) {
      state.#set(entry, JSON.stringify(entry.value));
      copied.set(entry.key, entry);
    }
    for (const { key, base, value } of pending.all()) {
      const change = state.written(key, value, base);
      if (change.entry) copied.set(key, change.entry);
      else copied.delete(key);
      // This host had it in force, whatever the store had.
      others.delete(key);
      notAccepted.delete(key);
    }
    state.copied = copied;
    state.#before = others;
    state.#refused = notAccepted;
    return state;
  }

  /**
   * What was in force when the last daemon ended, with what has changed since. Whoever takes it is the first, and gets it once.
   * @param changes to it @returns undefined if there is none
   */
  takeCopied(changes: readonly Change[]): CopiedState | undefined {
    const { copied } = this;
    this.copied = undefined;
    if (!copied) return undefined;
    const others = new Map(this.#before);
    const refused = this.#refused;
    this.#before = new Map();
    this.#refused = new Set();
    for (const { key, entry } of changes) {
      const last = copied.get(key);
      if (entry && last && !refused.has(key))
        others.set(key, [{ ...last, revision: Math.max(0, last.revision) }, ...(others.get(key) ?? [])]);
      if (!entry) others.delete(key);
      if (entry) copied.set(key, entry);
      else copied.delete(key);
    }
    return { entries: copied, before: others, refused };
  }

  /**
   * What was in force when the last daemon ended is to be so again, before the store has answered.
   * @param id of this host @param why the store has not answered @throws WeftError if that was a host with another name
   */
  checkCopied(id: string, why: string): void {
    if (this.copied) refuseForeignCopy(this.#host, id, this.copied, why);
  }

  /** From here on, the host belongs to this cluster. */
  async join(id: string): Promise<void> {
    if (this.id === id) return;
    await this.#own.transact({ put: [{ key: CLUSTER_KEY, value: id }] });
    this.id = id;
    this.mark = undefined;
  }

  /** This host follows the store there. */
  async followAt(place: StorePlace): Promise<void> {
    if (this.place && placeName(this.place) === placeName(place)) return;
    await notePlace(this.#own, place);
    this.place = place;
  }

  /** A record is in force as the store has it. */
  take({ key, entry }: Change): void {
    this.held.delete(key);
    if (!entry) {
      this.#remove(key);
      this.#copy.delete(key);
      return;
    }
    if (isOwnedBy(this.#host, entry)) this.#lost.delete(key);
    const text = JSON.stringify(entry.value);
    const known = this.known.get(key);
    // What this host wrote while the store was away is not in the copy. It stays in force if the other is not accepted.
    if (known?.value && known.revision < 0 && known.digest !== digestOf(text))
      this.#copy.put({ key, revision: 0 }, JSON.stringify(known.value));
    this.#set(entry, text);
    this.#copy.put(entry, text);
  }

  /** What this host has written and the store does not have yet. */
  unstored(): Entry[] {
    return this.pending.all().flatMap(({ key }) => {
      const { value, revision } = this.known.get(key) ?? {};
      return value !== undefined && revision! < 0 ? [Object.freeze({ key, value, revision: revision! })] : [];
    });
  }

  /** The store has what is in force, at this revision. */
  settle(key: string, entry: Entry | undefined): void {
    this.held.delete(key);
    const known = this.known.get(key);
    if (!entry || !known) return;
    if (known.stored !== entry.revision) this.#putAgain(entry);
    const copied = this.copied?.get(key);
    // Nobody knows its revision yet, and one of another history says nothing about this one.
    const isOpen = copied !== undefined && known.revision >= 0;
    if (isOpen) this.copied!.set(key, Object.freeze({ ...copied, revision: entry.revision }));
    this.known.set(key, { ...known, stored: entry.revision, ...(isOpen && { revision: entry.revision }) });
  }

  /** Writes of this host are made, or given up. They stay pending until the copy has what is in force instead. */
  async settlePending(settled: readonly Change[]): Promise<void> {
    const due = settled.filter(({ key }) => this.pending.has(key));
    if (due.length === 0) return;
    for (const { key, entry } of due) {
      if (!entry) this.#copy.delete(key);
      else if (this.known.get(key)?.revision !== entry.revision) this.take({ key, entry });
    }
    // Until all of a store has been taken in, nothing of it is written, and what is pending stays so.
    if (!this.mark) return;
    this.#copy.commit(this.mark, false);
    this.#isToKeep = true;
    await this.flushed();
    await this.pending.settle(due.map(({ key }) => key));
  }

  /** Resolves when the copy has everything. @throws WeftError if it cannot be written */
  async flushed(): Promise<void> {
    if (await this.#copy.flushed()) return;
    throw new WeftError('system', 'the copy of the cluster’s state cannot be written: the log says why');
  }

  /** All that is noted has been put into force, and judged: begins to write it. */
  keep(): void {
    if (!this.#isToKeep || !this.mark) return;
    this.#isToKeep = false;
    this.#copy.commit(this.mark);
  }

  /** Resolves when the copy has all that is in force now, also if that is much later. */
  kept(): Promise<void> {
    return this.#copy.written(this.#isToKeep && this.mark !== undefined);
  }

  /** Called now and then: writes what could not be written into the copy. */
  tick(): void {
    this.#copy.retry();
  }

  /** What is in force stays so, although the store has something else. */
  hold(key: string, entry: Entry | undefined): void {
    this.held.set(key, entry);
    const known = this.known.get(key);
    if (known) this.known.set(key, { ...known, stored: entry?.revision ?? 0 });
  }

  /** This host brings a record of its own along to a cluster that does not have it. It stays due until that has it (`judge`). */
  bring(key: string): void {
    const known = this.known.get(key);
    if (!known?.value) return;
    this.known.set(key, { ...known, stored: 0 });
    this.#putAgain({ key, revision: 0, value: known.value });
  }

  /** This host accepts a record as the store has it, or does not, so that what it accepted before stays in force. */
  judged({ key, revision, value, lease }: Entry, isAccepted: boolean): void {
    if (isAccepted !== this.#copy.isRefused(key) || this.known.get(key)?.stored !== revision) return;
    if (isAccepted) this.#copy.put({ key, revision, lease }, JSON.stringify(value));
    else this.#copy.refuse(key, revision);
    this.#isToKeep = true;
  }

  /** This host has written a record of its own, and the store does not have it yet. @returns what is in force now */
  written(key: string, value: object | undefined, base: number): Change {
    this.held.delete(key);
    this.#lost.delete(key);
    if (!value) {
      this.#remove(key);
      return { key, entry: undefined };
    }
    const revision = --this.#changes;
    this.known.set(key, { key, revision, stored: base, digest: digestOf(JSON.stringify(value)), value });
    return { key, entry: Object.freeze({ key, value, revision }) };
  }

  /** A write of this host is given up: somebody else was first. That is told until the record is this host's again, or `forgetLost`. */
  lose(key: string, why: string): void {
    this.#lost.delete(key);
    this.#lost.set(key, why);
    for (const [oldest] of this.#lost) {
      if (this.#lost.size <= MOST_LOST) break;
      this.#lost.delete(oldest);
    }
  }

  /** Somebody has read what was lost. */
  forgetLost(): void {
    this.#lost.clear();
  }

  /** Everything that is in force now belongs to this mark. */
  commit(mark: StoreMark): void {
    this.mark = mark;
    this.isJoining = false;
    this.#isToKeep = true;
  }

  /** Everything up to this revision of the store is in force. @param isSettled nothing is left to do about a strange store */
  reached(revision: number, isSettled = false): void {
    if (!this.mark) return;
    const { strange, ...mark } = { ...this.mark, revision: Math.max(revision, this.mark.revision) };
    this.commit(strange && !isSettled ? { ...mark, strange } : mark);
  }

  /** The revision at which this host believes the store to have a record; 0 for none. */
  storedAt(key: string): number {
    return this.known.get(key)?.stored ?? this.held.get(key)?.revision ?? 0;
  }

  /** True for a record that is in force exactly as the store has it at this revision, and that nothing is to be done about. */
  isSettled(key: string, revision: number): boolean {
    return this.#settled(key, revision) !== undefined;
  }

  #settled(key: string, revision: number): KnownRecord | undefined {
    const record = this.known.get(key);
    return record?.stored === revision && !this.held.has(key) && !this.pending.has(key) ? record : undefined;
  }

  /**
   * Which records of the store need not be read once more: those that are known at the same revision. Undefined if all must
   * be read because revisions mean nothing, or values are compared: this host has not followed the store up to now, the store
   * is not what it was, or this host has something to write.
   */
  get knownKey(): KnownKey | undefined {
    if (!this.mark || this.strange || this.pending.all().length > 0) return undefined;
    return (key, revision) => this.#settled(key, revision)?.key;
  }

  /** Those of all records that this host knows of. Some come twice; all may change while they are read. */
  *keys(): Generator<string> {
    yield* this.known.keys();
    yield* this.held.keys();
    for (const { key } of this.pending.all()) yield key;
  }

  get strange(): Strangeness | undefined {
    return this.mark?.strange;
  }

  /** Records of this host that are in force. */
  own(): KnownRecord[] {
    return [...this.known.values()].filter(({ value }) => value !== undefined);
  }

  isOwn(key: string): boolean {
    return this.known.get(key)?.value !== undefined || this.pending.has(key);
  }

  failure(kind: KindDefinition, name: string): WeftError | undefined {
    const key = keyOf(kind, name);
    if (!this.held.has(key)) return undefined;
    const has = this.held.get(key) ? 'has it differently' : 'has lost it';
    return new WeftError(
      'conflict',
      `${nameOfKey(key)} stays as it was, since the store ${has} and is not what it was: apply it again, or accept what the store says with \`weft doctor --accept-store\``,
    );
  }

  report(): Pick<SharedStoreReport, 'pending' | 'lost' | 'copyDamage' | 'signs' | 'held'> {
    const { what, left } = this.#damage ?? {};
    const done = this.isCompared ? 'what was missing has come from the store' : left;
    return {
      ...(what !== undefined && { copyDamage: `${what}, when weft started: ${done}` }),
      pending: this.pending.all().map(({ key, value }) => `${nameOfKey(key)}${value ? '' : ' (deleted)'}`),
      lost: [...this.#lost.values()],
      signs: [...(this.strange?.signs ?? [])],
      held: [...this.held].map(([key, entry]) => this.#heldReport(key, entry)),
    };
  }

  async close(): Promise<void> {
    await this.#copy.close();
  }

  /** Notes the same value at another revision. */
  #putAgain(entry: Entry): void {
    const isRefused = this.#copy.isRefused(entry.key);
    this.#copy.put(entry, JSON.stringify(entry.value));
    if (isRefused) this.#copy.refuse(entry.key, entry.revision);
  }

  #heldReport(key: string, entry: Entry | undefined): HeldRecordReport {
    const change = !entry ? 'deleted' : this.known.has(key) ? 'changed' : 'returned';
    return { name: nameOfKey(key), change };
  }

  #remove(key: string): void {
    if (this.known.delete(key)) this.removals++;
  }

  #set(entry: Entry, text: string): void {
    const { key, value, revision, lease } = entry;
    const known = { key, revision, stored: revision, digest: digestOf(text) };
    if (lease !== undefined) this.known.set(key, { ...known, isLeased: true });
    else this.known.set(key, isOwnedBy(this.#host, entry) ? { ...known, value: value as object } : known);
  }
}
