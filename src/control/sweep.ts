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
 * A change while a sweep is at work concerns the records that it has gone through already, so these are gone through again,
 * with the others that are left; it never begins anew. At a start, all that survived are judged, whatever has changed.
 */
import type { ConnectionRecords } from '../flow/connection.ts';
import { OVER } from '../flow/connection-state.ts';
import type { PortNo } from '../flow/types.ts';
import { resetsOfEnds } from '../pipeline/resets.ts';
import type { Tables } from '../pipeline/stage.ts';
import type { Changes } from '../table/changes.ts';
import { pinnedAt } from '../table/ended-connections.ts';
import type { Concerned } from '../table/policies.ts';
import { denialOf, type Denial } from '../pipeline/open-connections.ts';
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
  /** Sends a frame as if it had come in by a port. */
  readonly originate: (frame: Uint8Array, port: PortNo) => void;
  /** Decides again what depends on what has changed. */
  readonly enforce: () => void;
}

/** Connections that were ended, all alike to policies. */
export interface Cut extends Denial {
  readonly atMs: number;
  readonly connections: number;
}

/** What one turn does at most: each takes a few milliseconds. */
const TURN_SCANNED = 8192;
const TURN_JUDGED = 1024;
const TURN_CUT = 256;
/** How many classes are told of one sweep. */
const MOST_TOLD = 1024;
/** How many judgements are remembered. If there are more classes, few connections are alike. */
const MOST_JUDGED = 16_384;

export class Sweep {
  readonly #options: SweepOptions;
  /**
   * Called when connections were ended, or would be by staged policies.
   * @param more how many were ended beside those that `cuts` tells
   */
  onCuts: (cuts: readonly Cut[], more: number, staged: readonly Cut[]) => void = () => {};
  /** Undefined: all are concerned. */
  #concerned: { subjects: Set<string>; addresses: Set<string> } | undefined = nothing();
  #next = 0;
  /** How many slots are still to be gone through. */
  #left = 0;
  /** Judged so far, by class. */
  #judged = new Map<string, Judged>();
  #cuts = new Map<string, Cut>();
  #more = 0;
  #staged = new Map<string, Cut>();
  /** How many slots have been gone through since the beginning. */
  #scanned = 0;
  #judgedInTurn = 0;
  #isRunning = false;
  readonly #waiting = new Set<{ readonly until: number; readonly done: () => void }>();

  constructor(options: SweepOptions) {
    this.#options = options;
  }

  /** Judges those that are concerned by what the policies have noted since the last call: the first ones before this returns. */
  start(): void {
    const concerned = this.#options.tables.policies.takeConcerned();
    if (this.#concerned) join(this.#concerned, concerned);
    this.#begin();
  }

  /** Judges all of them. */
  startAll(): void {
    this.#options.tables.policies.takeConcerned();
    this.#concerned = undefined;
    this.#begin();
  }

  /** Resolves when all that is concerned by now has been judged, and told, however much changes meanwhile. */
  async done(): Promise<void> {
    if (!this.#isRunning) return;
    const until = this.#scanned + this.#left;
    await new Promise<void>((done) => this.#waiting.add({ until, done }));
  }

  #begin(): void {
    this.#judged = new Map();
    this.#left = this.#options.records.ready;
    if (this.#isRunning) return;
    this.#isRunning = true;
    inTurns(this.#options.later, () => this.#turn());
  }

  #turn(): boolean {
    const { records, enforce } = this.#options;
    let cut = 0;
    this.#judgedInTurn = 0;
    for (let scanned = 0; this.#left > 0 && scanned < TURN_SCANNED; scanned++) {
      if (cut >= TURN_CUT || this.#judgedInTurn >= TURN_JUDGED) break;
      if (this.#next >= records.ready) this.#next = 0;
      if (this.#look(this.#next++)) cut++;
      this.#left--;
      this.#scanned++;
    }
    // What waits for a connection that has ended, or has its flow, is decided again.
    enforce();
    const isOver = this.#left === 0;
    if (isOver) this.#finish();
    for (const one of this.#waiting) {
      if (!isOver && one.until > this.#scanned) continue;
      this.#tell();
      this.#waiting.delete(one);
      one.done();
    }
    return !isOver;
  }

  #finish(): void {
    this.#tell();
    this.#concerned = nothing();
    this.#judged = new Map();
    this.#isRunning = false;
  }

  #tell(): void {
    const [cuts, more, staged] = [[...this.#cuts.values()], this.#more, [...this.#staged.values()]];
    this.#cuts = new Map();
    this.#more = 0;
    this.#staged = new Map();
    if (cuts.length > 0 || staged.length > 0) this.onCuts(cuts, more, staged);
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
      if (isAllowed) changes.changedAll(tables.connections.forgetEnded(slot));
      return isAllowed;
    }
    if (typeof found === 'object' && 'staged' in found) {
      this.#note(this.#staged, slot, found.staged, id);
      return false;
    }
    if (found === 'allowed' || found === 'unconcerned' || !tables.connections.claim({ slot, generation })) return false;
    if (found === 'unknown') changes.changedAll(tables.connections.retire(slot, this.#options.clock()));
    else this.#end(slot, found, id);
    return true;
  }

  #judge(slot: number): Judged {
    const { records, tables } = this.#options;
    try {
      return denialOf(records.read(slot), tables, this.#concerned);
    } catch {
      // Nothing of a connection that a defect keeps from being judged passes; what its ends try next tells of the defect.
      return 'unknown';
    }
  }

  #end(slot: number, denial: Denial, id: string): void {
    const { tables, changes, records, clock, send, originate } = this.#options;
    if (!this.#note(this.#cuts, slot, denial, id)) this.#more++;
    const resets = denial.judgement.rejects ? resetsOfEnds(pinnedAt(records, slot), tables) : undefined;
    if (resets) originate(resets.toFar, resets.port);
    changes.changedAll(tables.connections.retire(slot, clock()));
    tables.connections.ended.denied(slot, denial.direction);
    if (resets) {
      send(resets.toNear, resets.port);
      tables.connections.ended.told(slot);
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

function nothing(): { subjects: Set<string>; addresses: Set<string> } {
  return { subjects: new Set(), addresses: new Set() };
}

function join(all: { subjects: Set<string>; addresses: Set<string> }, { subjects, addresses }: Concerned): void {
  for (const subject of subjects) all.subjects.add(subject);
  for (const address of addresses) all.addresses.add(address);
}
