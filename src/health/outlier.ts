/**
 * Which backends of a pool are ejected because connections to them fail: passive health, made of what the switch sees
 * anyway.
 *
 *   1. `failed` and `worked` say how connections to a backend ended up: a SYN without an answer, a reset instead of one, an
 *      ICMP error; or a handshake that was answered
 *   2. a backend that fails several times in a row is ejected, unless too many others are: no more than a share of the pool,
 *      though always one
 *   3. the first ejection lasts for a base time, and each one that follows for as much longer. A backend is forgiven one
 *      ejection for each interval that it spends in the pool afterwards
 *   4. if fewer backends than a least share are left, or none, there is a panic: all of them are used, since it is likelier
 *      that something else is wrong than that all of them are, and the few that are left would be overrun
 *
 * Invariant: at no time are more backends ejected than the share allows, also when backends or the settings have changed; then
 * those return first whose time is over first.
 *
 * It has neither clock nor timer: the time comes with each call, in milliseconds of a clock that never goes back, and
 * `nextMs` says when `advance` has something to do. It knows the backends that were given to it, and no others.
 */
import type { OutlierSettings } from '../table/service.ts';

/** Why a connection did not come about. */
export type ConnectionFailure = 'no answer' | 'reset' | 'unreachable';

/** The longest ejection, unless the first one is already longer. */
export const LONGEST_EJECTION_MS = 300_000;

interface Member {
  failures: number;
  lastFailure: ConnectionFailure | undefined;
  /** Those that are not forgiven; counted down only when it matters, in `#forgive`. */
  ejections: number;
  /** When it came back, or was last forgiven one. */
  sinceMs: number;
  /** While it is ejected. */
  untilMs: number | undefined;
}

/** What an operator wants to know of a backend. */
export interface OutlierState {
  /** In a row. */
  readonly failures: number;
  readonly lastFailure: ConnectionFailure | undefined;
  /** When it returns; undefined if it is not ejected. */
  readonly ejectedUntilMs: number | undefined;
}

/** @typeParam Id whatever identifies a backend */
export class OutlierPool<Id> {
  #settings: OutlierSettings;
  #members = new Map<Id, Member>();
  #ejected = 0;

  constructor(settings: OutlierSettings) {
    this.#settings = settings;
  }

  /** Those that stay keep their state, others are forgotten. @returns those that are back because the pool is smaller */
  setMembers(ids: Iterable<Id>, nowMs: number): Id[] {
    const before = this.#members;
    this.#members = new Map();
    this.#ejected = 0;
    for (const id of new Set(ids)) {
      const member = before.get(id) ?? newMember(nowMs);
      this.#members.set(id, member);
      if (member.untilMs !== undefined) this.#ejected++;
    }
    return this.#fit(nowMs);
  }

  /** Ejections keep the time that they were given. @returns those that are back because fewer may be ejected now */
  setSettings(settings: OutlierSettings, nowMs: number): Id[] {
    // What has passed until now has passed under the old interval.
    for (const member of this.#members.values()) this.#forgive(member, nowMs);
    this.#settings = settings;
    return this.#fit(nowMs);
  }

  /** A connection to it did not come about. @returns whether that ejects it */
  failed(id: Id, why: ConnectionFailure, nowMs: number): boolean {
    const member = this.#members.get(id);
    // During a panic, ejected backends get connections. Whether these fail changes nothing.
    if (!member || member.untilMs !== undefined) return false;
    member.failures++;
    member.lastFailure = why;
    if (member.failures < this.#settings.failures || this.#ejected >= this.#most()) return false;
    this.#forgive(member, nowMs);
    member.ejections++;
    const { baseEjectionMs } = this.#settings;
    const lastsMs = Math.min(member.ejections * baseEjectionMs, Math.max(baseEjectionMs, LONGEST_EJECTION_MS));
    member.untilMs = nowMs + lastsMs;
    this.#ejected++;
    return true;
  }

  /** What it was ejected for is not believed any more: it is back. @returns false if it was not ejected */
  acquit(id: Id, nowMs: number): boolean {
    const member = this.#members.get(id);
    if (member?.untilMs === undefined) return false;
    this.#return(member, nowMs);
    member.ejections--;
    return true;
  }

  /** It answered a connection. */
  worked(id: Id): void {
    const member = this.#members.get(id);
    if (member && member.untilMs === undefined) member.failures = 0;
  }

  /** @returns those whose time is over: they are back, with no failures counted */
  advance(nowMs: number): Id[] {
    const back = this.#byReturn().filter(({ untilMs }) => untilMs <= nowMs);
    // It has been back since its time was over, however late this is called.
    for (const { member, untilMs } of back) this.#return(member, untilMs);
    return back.map(({ id }) => id);
  }

  /** When the next one returns. */
  get nextMs(): number | undefined {
    return this.#byReturn()[0]?.untilMs;
  }

  /** Are ejections to be ignored, because too few backends are left? */
  get isPanic(): boolean {
    const size = this.#members.size;
    const healthy = size - this.#ejected;
    return size > 0 && (healthy === 0 || 100 * healthy < this.#settings.leastHealthyPercent * size);
  }

  state(id: Id): OutlierState | undefined {
    const member = this.#members.get(id);
    return member && { failures: member.failures, lastFailure: member.lastFailure, ejectedUntilMs: member.untilMs };
  }

  /** How many may be ejected. */
  #most(): number {
    const { mostEjectedPercent } = this.#settings;
    return mostEjectedPercent === 0 ? 0 : Math.max(1, Math.floor((this.#members.size * mostEjectedPercent) / 100));
  }

  /** Takes back as many as are too many. */
  #fit(nowMs: number): Id[] {
    const back = this.#byReturn().slice(0, Math.max(0, this.#ejected - this.#most()));
    for (const { member } of back) this.#return(member, nowMs);
    return back.map(({ id }) => id);
  }

  #return(member: Member, atMs: number): void {
    member.untilMs = undefined;
    member.failures = 0;
    member.sinceMs = atMs;
    this.#ejected--;
  }

  /** Takes off the ejections for which it has been in the pool long enough. */
  #forgive(member: Member, nowMs: number): void {
    if (member.untilMs !== undefined) return;
    const { intervalMs } = this.#settings;
    const intervals = Math.floor((nowMs - member.sinceMs) / intervalMs);
    member.ejections = Math.max(0, member.ejections - intervals);
    member.sinceMs += intervals * intervalMs;
  }

  /** The ejected ones, in the order in which they return. */
  #byReturn(): { readonly id: Id; readonly member: Member; readonly untilMs: number }[] {
    if (this.#ejected === 0) return [];
    return [...this.#members]
      .flatMap(([id, member]) => (member.untilMs === undefined ? [] : [{ id, member, untilMs: member.untilMs }]))
      .sort((a, b) => a.untilMs - b.untilMs);
  }
}

function newMember(nowMs: number): Member {
  return { failures: 0, lastFailure: undefined, ejections: 0, sinceMs: nowMs, untilMs: undefined };
}
