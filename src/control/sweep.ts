/**
 * The sweep: policies are asked when a connection begins, and of those that are open, after what they say has changed.
 *
 * Whoever changes policies, labels or addresses has cached flows decided again first (`Controller.enforce`), so from then on no
 * connection is opened by what was in force before. Then all records are gone through, some in each turn. Those that are alike
 * to policies (`ConnectionRecords.classId`) are judged once. What is allowed is not touched: its flows stay. What is not is
 * ended:
 *
 *   - its record stays for a while, so that no packet passes untranslated, and none of its answers is taken for the beginning of
 *     a connection in the other direction, which policies may allow (`ConnectionTable.retire`)
 *   - if the policy says so, both ends of TCP are reset
 *   - it is reported, with who talked to whom and what denies it, when the sweep is over: one by one for each class, as long as
 *     there are not too many classes
 *
 * If policies allow one again that they have ended, its record goes.
 *
 * A change while a sweep is at work does not make it begin anew: it goes on to its end by what is in force now, and tells what it
 * has ended. Then there is another one, for all that has changed since it began. If only addresses have changed, as they do with
 * every workload of the cluster that comes or goes, the records of others are passed over unread. At a start, all that survived
 * are judged, whatever has changed.
 */
import { lastWord, type ConnectionRecords } from '../flow/connection.ts';
import { OVER } from '../flow/connection-state.ts';
import { bytesOf } from '../flow/key.ts';
import type { PortNo } from '../flow/types.ts';
import { resetsOfEnds } from '../pipeline/resets.ts';
import type { Tables } from '../pipeline/stage.ts';
import type { Changes } from '../table/changes.ts';
import type { Found } from '../table/connections.ts';
import { pinnedAt } from '../table/ended-connections.ts';
import type { Concerned } from '../table/policies.ts';
import { denialOf, subjectsOf, type Denial } from '../pipeline/open-connections.ts';
import type { FarResets } from './far-resets.ts';
import { MOST_JUDGED, MOST_TOLD, TURN_JUDGED, TURN_SCANNED } from './judging-limits.ts';
import { inTurns, type Later } from './turns.ts';

export interface SweepOptions {
  readonly tables: Tables;
  readonly changes: Changes;
  readonly records: ConnectionRecords;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  readonly later: Later | undefined;
  /** Sends a frame out of a port as it is. */
  readonly send: (frame: Uint8Array, port: PortNo) => void;
  /**
   * The way of a frame as if it had come in by a port. What is returned sends frames there, also later, when the connection is
   * not open any more: they are translated already.
   */
  readonly wayOf: (frame: Uint8Array, port: PortNo) => (frame: Uint8Array) => void;
  readonly farResets: Pick<FarResets, 'add'>;
  /** Decides again what depends on what has changed. */
  readonly enforce: () => void;
}

/** Connections that were ended, all alike to policies. */
export interface Cut extends Denial {
  readonly atMs: number;
  readonly connections: number;
}

/** How many records one turn passes over at most, and how many connections it ends. */
const TURN_PASSED_OVER = 65_536;
const TURN_CUT = 256;

export class Sweep {
  readonly #options: SweepOptions;
  /**
   * Called when connections were ended, or would be by staged policies.
   * @param more how many were ended beside those that `cuts` tells
   */
  onCuts: (cuts: readonly Cut[], more: number, staged: readonly Cut[]) => void = () => {};
  /** What the sweep at work is for. */
  #concerned: Scope = nothing();
  /** What the next one is for; undefined: there is nothing yet. */
  #waiting: Scope | undefined;
  /** The slot that is next; those below have been gone through. */
  #next = 0;
  /** Judged so far by what is in force now, by class. */
  #judged = new Map<string, Judged>();
  #cuts = new Map<string, Cut>();
  #more = 0;
  #staged = new Map<string, Cut>();
  #judgedInTurn = 0;
  #isRunning = false;
  /** How many sweeps are over. */
  #finished = 0;
  /** Those who wait, and how many sweeps must be over for them. */
  readonly #onDone = new Map<() => void, number>();

  constructor(options: SweepOptions) {
    this.#options = options;
  }

  /**
   * Judges those that are concerned by what the policies have noted since the last call: the first ones before this returns,
   * unless a sweep is at work.
   */
  start(): void {
    this.#add(this.#options.tables.policies.takeConcerned());
  }

  /** Judges all of them. */
  startAll(): void {
    this.#options.tables.policies.takeConcerned();
    this.#add('all');
  }

  /** True if nothing is being judged. */
  get isAtRest(): boolean {
    return !this.#isRunning;
  }

  /** Resolves when all that is concerned by now has been judged, and told, however much changes meanwhile. */
  done(): Promise<void> {
    if (!this.#isRunning) return Promise.resolve();
    const last = this.#finished + (this.#waiting ? 2 : 1);
    return new Promise((resolve) => this.#onDone.set(resolve, last));
  }

  #add(concerned: Concerned | 'all'): void {
    this.#waiting = joined(this.#waiting, concerned);
    // What was judged before is not what is in force now.
    this.#judged = new Map();
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#begin(this.#waiting);
    inTurns(this.#options.later, () => this.#turn());
  }

  #begin(concerned: Scope): void {
    this.#concerned = concerned;
    this.#waiting = undefined;
    this.#next = 0;
  }

  #turn(): boolean {
    const { records, enforce } = this.#options;
    const end = this.#next + TURN_PASSED_OVER;
    let [cut, scanned] = [0, 0];
    this.#judgedInTurn = 0;
    while (scanned < TURN_SCANNED && cut < TURN_CUT && this.#judgedInTurn < TURN_JUDGED) {
      const slot = this.#nextFrom(this.#next, end);
      this.#next = slot < 0 ? end : slot + 1;
      if (slot < 0) break;
      scanned++;
      if (this.#look(slot)) cut++;
    }
    // What waits for a connection that has ended, or has its flow, is decided again.
    enforce();
    return this.#next < records.ready || this.#finish();
  }

  /** The next slot that may have a record that is concerned; -1 if there is none below `to`. */
  #nextFrom(from: number, to: number): number {
    const { records } = this.#options;
    const concerned = this.#concerned;
    if (concerned === 'all' || concerned.subjects.size > 0 || concerned.namespaces.size > 0)
      return from < Math.min(records.ready, to) ? from : -1;
    return records.nextBetween(from, to, concerned.words);
  }

  /** @returns true if another one has begun */
  #finish(): boolean {
    const [cuts, more, staged] = [[...this.#cuts.values()], this.#more, [...this.#staged.values()]];
    this.#cuts = new Map();
    this.#more = 0;
    this.#staged = new Map();
    this.#judged = new Map();
    this.#finished++;
    if (cuts.length > 0 || staged.length > 0) this.onCuts(cuts, more, staged);
    for (const [resolve, last] of this.#onDone) {
      if (last > this.#finished) continue;
      this.#onDone.delete(resolve);
      resolve();
    }
    if (this.#waiting) {
      this.#begin(this.#waiting);
      return true;
    }
    this.#concerned = nothing();
    this.#isRunning = false;
    return false;
  }

  /** Returns true if there is a connection that has to be ended, or one that ended is forgotten. */
  #look(slot: number): boolean {
    const { records, tables, changes } = this.#options;
    const generation = records.generation(slot);
    if (generation === 0 || generation % 2 !== 0) return false;
    const hasEnded = records.kind(slot) === 'ended';
    if (hasEnded && !tables.connections.ended.deniedBy(slot)) return false;
    const id = records.classId(slot);
    let found = this.#judged.get(id);
    if (!found) {
      found = this.#judge(slot);
      // While it was read, a thread of the datapath may have closed it and opened another one there.
      if (records.generation(slot) !== generation) return false;
      if (this.#judged.size >= MOST_JUDGED) this.#judged = new Map();
      this.#judged.set(id, found);
      this.#judgedInTurn++;
    }
    const isAllowed = found === 'allowed' || (typeof found === 'object' && 'staged' in found);
    if (hasEnded) {
      if (isAllowed) changes.changedAll(tables.connections.forgetEnded({ slot, generation }));
      return isAllowed;
    }
    if (typeof found === 'object' && 'staged' in found) {
      this.#note(this.#staged, slot, found.staged, id);
      return false;
    }
    if (found === 'allowed' || found === 'unconcerned' || !tables.connections.claim({ slot, generation })) return false;
    if (found === 'unknown') {
      changes.changedAll(tables.connections.retire(slot, this.#options.clock(), generation));
      // Nobody is told of it, now or at the next start.
      tables.connections.ended.told(slot, generation);
    } else this.#end({ slot, generation }, found, id);
    return true;
  }

  #judge(slot: number): Judged {
    const { records, tables } = this.#options;
    try {
      const connection = records.read(slot);
      const subjects = subjectsOf(connection, slot, records, tables);
      return denialOf(connection, tables, this.#concerned === 'all' ? undefined : this.#concerned, subjects);
    } catch {
      // Nothing of a connection that a defect keeps from being judged passes; what its ends try next tells of the defect.
      return 'unknown';
    }
  }

  /** The resets are made after its record says that it has ended: until then, its ends go on and take no older numbers. */
  #end({ slot, generation }: Pick<Found, 'slot' | 'generation'>, denial: Denial, id: string): void {
    const { tables, changes, records, clock, wayOf, send } = this.#options;
    const connection = denial.judgement.rejects ? pinnedAt(records, slot) : undefined;
    // A thread of the datapath has given it up.
    if (!tables.connections.isOpen({ slot, generation })) return;
    if (!this.#note(this.#cuts, slot, denial, id)) this.#more++;
    const resets = connection && resetsOfEnds(connection, tables);
    // When that is sent, nothing of it is forwarded any more by itself.
    const sendFar = resets && wayOf(resets.toFar, resets.port);
    changes.changedAll(tables.connections.retire(slot, clock(), generation, denial.direction));
    const isRemembered = tables.connections.isOpen({ slot, generation }) && tables.connections.ended.has(slot);
    const exact = resets && isRemembered ? resetsOfEnds(pinnedAt(records, slot), tables) : resets;
    if (connection && exact) {
      sendFar?.(exact.toFarTranslated);
      send(exact.toNear, exact.port);
      this.#options.farResets.add(connection);
      tables.connections.ended.told(slot, generation);
    }
  }

  /** Counts a connection among those of its class, unless it is over anyway. Returns false if there are too many classes. */
  #note(classes: Map<string, Cut>, slot: number, denial: Denial, id: string): boolean {
    if (OVER.has(this.#options.records.state(slot))) return true;
    const known = classes.get(id);
    if (!known && classes.size >= MOST_TOLD) return false;
    classes.set(id, { ...denial, atMs: this.#options.clock(), connections: (known?.connections ?? 0) + 1 });
    return true;
  }
}

type Judged = ReturnType<typeof denialOf> | 'unknown';

/** Of addresses, the last words too, by which records are found without reading all of them. */
interface SomeConcerned {
  readonly subjects: Set<string>;
  readonly addresses: Set<string>;
  readonly namespaces: Set<string>;
  readonly words: Set<number>;
}
type Scope = SomeConcerned | 'all';

function nothing(): SomeConcerned {
  return { subjects: new Set(), addresses: new Set(), namespaces: new Set(), words: new Set() };
}

function joined(scope: Scope | undefined, concerned: Concerned | 'all'): Scope {
  if (scope === 'all' || concerned === 'all') return 'all';
  const all = scope ?? nothing();
  for (const subject of concerned.subjects) all.subjects.add(subject);
  for (const namespace of concerned.namespaces) all.namespaces.add(namespace);
  for (const address of concerned.addresses) {
    all.addresses.add(address);
    all.words.add(lastWord(bytesOf(address)));
  }
  return all;
}
