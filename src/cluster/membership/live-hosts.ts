/**
 * The hosts whose daemon runs, as far as the store says: `live/NAME` disappears some seconds after the daemon or its way to
 * the store is gone. Ownership is reclaimed by that. Whether a host can be reached is another question (`liveness`). A record
 * without a lease says nothing: somebody else has put it there, as part of a dump, and it would never go.
 */
import { compareNames } from '../../model/name-order.ts';
import { liveRecord, type LiveRecord } from '../../model/records.ts';
import type { Change, Entry, Expectation } from '../../store/store.ts';
import { LIVE } from '../keys.ts';
import type { Keys, Register } from '../register.ts';

/** Clocks of hosts may differ by this much before it is told. Nothing depends on them. */
const MOST_SKEW_MS = 60_000;
/** A record may have been written so long ago: it is written anew each minute (`presence.ts`). */
const MOST_AGE_MS = 75_000;
/** Of how many hosts it is remembered since when they are gone. */
const MOST_GONE = 4096;

export interface LiveHostsEnvironment {
  /** The name of this host. */
  readonly host: string;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  /** The record of this host is gone, or somebody has put another one in its place. */
  readonly onOwnGone: () => void;
}

interface Known {
  readonly record: LiveRecord;
  /** How far its clock is ahead of the one here, at least: it may have written the record `MOST_AGE_MS` ago. */
  readonly skewMs: number;
}

export class LiveHosts implements Register {
  readonly prefix = LIVE;
  readonly #environment: LiveHostsEnvironment;
  readonly #known = new Map<string, Known>();
  /** Of all records, also those that are not readable. */
  readonly #revisions = new Map<string, number>();
  /** When a record went, in milliseconds since the epoch. */
  readonly #goneSinceMs = new Map<string, number>();

  constructor(environment: LiveHostsEnvironment) {
    this.#environment = environment;
  }

  see(changes: readonly Change[]): void {
    for (const { key, entry } of changes) {
      const name = key.slice(LIVE.length);
      if (entry) this.#revisions.set(name, entry.revision);
      else this.#revisions.delete(name);
      const record = liveRecordOf(entry);
      if (!record) {
        if (this.#known.delete(name)) this.#gone(name);
        if (name === this.#environment.host && entry?.lease === undefined) this.#environment.onOwnGone();
        continue;
      }
      this.#goneSinceMs.delete(name);
      this.#known.set(name, { record, skewMs: record.clock - this.#environment.wallClock() });
    }
  }

  listed(keys: Keys): void {
    for (const name of this.#known.keys()) if (!keys.has(LIVE + name)) this.#known.delete(name);
    for (const name of this.#revisions.keys()) if (!keys.has(LIVE + name)) this.#revisions.delete(name);
  }

  #gone(name: string): void {
    this.#goneSinceMs.set(name, this.#environment.wallClock());
    const [oldest] = this.#goneSinceMs.keys();
    if (this.#goneSinceMs.size > MOST_GONE) this.#goneSinceMs.delete(oldest!);
  }

  find(name: string): LiveRecord | undefined {
    return this.#known.get(name)?.record;
  }

  /** What a change expects of the record of a host if that must not begin to run meanwhile. */
  expectation(name: string): Expectation {
    return { key: LIVE + name, revision: this.#revisions.get(name) ?? 0 };
  }

  get size(): number {
    return this.#known.size;
  }

  /** When the record of a host went, in milliseconds since the epoch; undefined if that was before this daemon started. */
  goneSinceMs(name: string): number | undefined {
    return this.#goneSinceMs.get(name);
  }

  /** What of other hosts does not fit to this one. @param mtu of the underlay here; undefined if it is not known */
  differences(mtu: number | undefined): { readonly detail: string; readonly hint: string }[] {
    const inOrder = [...this.#known].sort(([a], [b]) => compareNames(a, b));
    return inOrder.flatMap(([name, { record, skewMs }]) => {
      if (name === this.#environment.host) return [];
      const isOff = skewMs > MOST_SKEW_MS || skewMs + MOST_AGE_MS < -MOST_SKEW_MS;
      const ahead = isOff ? skewMs : 0;
      return [
        ...(mtu !== undefined && record.mtu !== undefined && record.mtu !== mtu
          ? [
              {
                detail: `host "${name}" has an underlay of MTU ${record.mtu}, and this host one of ${mtu}`,
                hint: 'give both the same, or networks an MTU that fits the smaller one (--mtu)',
              },
            ]
          : []),
        ...(ahead === 0
          ? []
          : [
              {
                detail: `the clock of host "${name}" is ${durationText(Math.abs(ahead))} ${ahead > 0 ? 'ahead of' : 'behind'} the one here`,
                hint: 'nothing in weft depends on it, but times in logs and reports do: run NTP on both',
              },
            ]),
      ];
    });
  }
}

/** Undefined if there is none that says that a daemon runs. */
export function liveRecordOf(entry: Entry | undefined): LiveRecord | undefined {
  return entry?.lease === undefined ? undefined : liveRecord.safeParse(entry.value).data;
}

function durationText(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
