/**
 * The flow classes of the last 7 days, of which there are never too many, whoever talks to whomever.
 *
 *   each source   so many at each level (`flow-class.ts`). What finds no room at one level is counted at the next one, which stands for more;
 *                 so is one that has not been seen for a day, if another one needs its place. The last level always has room
 *   all sources   MOST_CLASSES together. Beyond that, the sources that have the most lose those that they have not seen for longest, until
 *                 none of them has more than its share
 *
 * So whoever scans a million ports has some hundred classes of its own, and keeps nobody else from having theirs.
 *
 * Times are those of a clock that nobody sets: days do not pass because the clock on the wall was wrong for a minute.
 *
 * Owned by the thread of the switch.
 */
import { sameBytes } from '../../flow/types.ts';
import { classKey, classLevels, sourceOf, type ClassLevel, type FlowClass, type Talk } from './flow-class.ts';

const DAY_MS = 86_400_000;
export const KEPT_MS = 7 * DAY_MS;
export const MOST_CLASSES = 16_384;
export const MOST_OF_SOURCE = { exact: 256, ports: 128, block: 64, any: 2 } as const satisfies Record<
  ClassLevel,
  number
>;

/** When and how often a conversation was seen. */
export type Seen = Pick<FlowClass, 'verdict' | 'firstSeenMs' | 'lastSeenMs' | 'opened' | 'denied'>;

type Entry = { -readonly [K in keyof FlowClass]: FlowClass[K] };
/** The classes of a source at one level. */
interface Level {
  readonly classes: Map<string, Entry>;
  /** None of them has not been seen for a day before that. */
  fullUntilMs: number;
}
type Levels = Readonly<Record<ClassLevel, Level>>;

export class FlowClasses {
  readonly #most: number;
  readonly #sources = new Map<string, Levels>();
  readonly #all = new Set<Entry>();
  #givenUp = 0;

  constructor(most = MOST_CLASSES) {
    this.#most = most;
  }

  get size(): number {
    return this.#all.size;
  }

  /** How many were given up because there were too many. */
  get givenUp(): number {
    return this.#givenUp;
  }

  /** Notes a conversation. @returns its class */
  note(talk: Talk, seen: Seen): FlowClass {
    return this.#put(talk, seen, 0);
  }

  /** Notes more of a class that has just been noted. @returns false if it is not there any more */
  noteAgain(one: FlowClass, { lastSeenMs, opened }: Pick<Seen, 'lastSeenMs' | 'opened'>): boolean {
    if (!this.refresh(one, lastSeenMs)) return false;
    (one as Entry).opened += opened;
    return true;
  }

  /** Puts one back that was kept. */
  restore(kept: FlowClass): void {
    this.#put(kept, kept, classLevels.indexOf(kept.level));
  }

  /** A conversation of this class was still seen then. @returns false if the class is not there any more */
  refresh(one: FlowClass, atMs: number): boolean {
    const entry = one as Entry;
    if (!this.#all.has(entry)) return false;
    if (atMs > entry.lastSeenMs) entry.lastSeenMs = atMs;
    return true;
  }

  /** The same conversations, of which more or less is known by now. */
  change(one: FlowClass, ends: Pick<Talk, 'from' | 'to'>): void {
    if (!this.#delete(one)) return;
    this.#put({ ...one, ...ends }, one, classLevels.indexOf(one.level));
  }

  /** Forgets those that were not seen for so long, and as many as there are too many. */
  keep(nowMs: number): void {
    for (const one of [...this.#all]) {
      // The clock was ahead.
      if (one.lastSeenMs > nowMs) one.lastSeenMs = nowMs;
      if (one.firstSeenMs > nowMs) one.firstSeenMs = nowMs;
      if (one.lastSeenMs <= nowMs - KEPT_MS) this.#delete(one);
    }
    if (this.#all.size > this.#most) this.#trim();
  }

  values(): Iterable<FlowClass> {
    return this.#all;
  }

  #put(talk: Talk, seen: Seen, first: number): Entry {
    const source = sourceOf(talk);
    const levels = this.#sources.get(source) ?? noClasses();
    this.#sources.set(source, levels);
    let at = first;
    while (!this.#hasRoom(levels, at, talk, seen.lastSeenMs)) at++;
    const level = classLevels[at]!;
    const key = classKey(level, talk);
    const known = levels[level].classes.get(key);
    if (known) return join(known, talk, seen);
    const { places, from, to, protocol, l4Port, meant, meantPort } = talk;
    const { verdict, firstSeenMs, lastSeenMs, opened, denied } = seen;
    const entry: Entry = {
      ...{ level, places, from, to, protocol, l4Port },
      // Mostly it is the same one.
      meant: sameBytes(meant, to.address) ? to.address : meant,
      meantPort,
      ...{ verdict, firstSeenMs, lastSeenMs, opened, denied },
    };
    levels[level].classes.set(key, entry);
    levels[level].fullUntilMs = Math.min(levels[level].fullUntilMs, lastSeenMs + DAY_MS);
    this.#all.add(entry);
    return entry;
  }

  /** True if it has its class at this level, or may have another one there; one that was not seen for a day gives way. */
  #hasRoom(levels: Levels, at: number, talk: Talk, nowMs: number): boolean {
    const name = classLevels[at]!;
    const level = levels[name];
    const { classes } = level;
    if (classes.size < MOST_OF_SOURCE[name] || classes.has(classKey(name, talk))) return true;
    if (nowMs < level.fullUntilMs) return false;
    let [oldest] = classes.values();
    for (const one of classes.values()) if (one.lastSeenMs < oldest!.lastSeenMs) oldest = one;
    level.fullUntilMs = oldest!.lastSeenMs + DAY_MS;
    if (nowMs < level.fullUntilMs || !this.#delete(oldest!)) return false;
    this.#put(oldest!, oldest!, at + 1);
    return true;
  }

  #delete(one: FlowClass): boolean {
    if (!this.#all.delete(one)) return false;
    const source = sourceOf(one);
    const levels = this.#sources.get(source)!;
    levels[one.level].classes.delete(classKey(one.level, one));
    if (countOf(levels) === 0) this.#sources.delete(source);
    return true;
  }

  #trim(): void {
    const counts = [...this.#sources.values()].map(countOf).sort((a, b) => a - b);
    const share = shareOf(counts, this.#most);
    for (const levels of this.#sources.values()) {
      if (countOf(levels) > share) this.#giveUp(allOf(levels), countOf(levels) - share);
    }
    // There are more sources than classes.
    if (this.#all.size > this.#most) this.#giveUp([...this.#all], this.#all.size - this.#most);
  }

  /** Those that were not seen for longest. */
  #giveUp(classes: Entry[], count: number): void {
    classes.sort((a, b) => a.lastSeenMs - b.lastSeenMs);
    for (const one of classes.slice(0, count)) if (this.#delete(one)) this.#givenUp++;
  }
}

function noClasses(): Levels {
  const level = (): Level => ({ classes: new Map(), fullUntilMs: -Infinity });
  return { exact: level(), ports: level(), block: level(), any: level() };
}

/** What was seen last is what it is judged by. */
function join(entry: Entry, { places, from, to, protocol, l4Port, meant, meantPort }: Talk, seen: Seen): Entry {
  if (seen.lastSeenMs >= entry.lastSeenMs) {
    Object.assign(entry, { places, from, to, protocol, l4Port, meant, meantPort, verdict: seen.verdict });
  }
  entry.firstSeenMs = Math.min(entry.firstSeenMs, seen.firstSeenMs);
  entry.lastSeenMs = Math.max(entry.lastSeenMs, seen.lastSeenMs);
  entry.opened += seen.opened;
  entry.denied += seen.denied;
  return entry;
}

function countOf(levels: Levels): number {
  return classLevels.reduce((sum, level) => sum + levels[level].classes.size, 0);
}

function allOf(levels: Levels): Entry[] {
  return classLevels.flatMap((level) => [...levels[level].classes.values()]);
}

/** How many each may have, so that together they have no more than `most`. @param counts in ascending order */
function shareOf(counts: readonly number[], most: number): number {
  let left = most;
  for (const [at, count] of counts.entries()) {
    const share = Math.floor(left / (counts.length - at));
    if (count > share) return Math.max(1, share);
    left -= count;
  }
  return Infinity;
}
