/**
 * Three hosts over one store, in any order: operations, outages of each, lost answers, lost places, kills, restarts, and
 * restores of the store. A naive twin remembers what each record may be in the end.
 *
 * At every moment: what is in force on a host goes only if somebody deleted it, or that is told; no address has two owners.
 * In the end, when all are back and what is held is accepted: all hosts have what the store has, and that is what the twin
 * allows.
 */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { WeftError } from '../../src/error.ts';
import type { Entry, Store } from '../../src/store/store.ts';
import type { Random } from '../support/random.ts';
import { runTrials, type Trial } from '../support/trials.ts';
import { openStore } from './control-plane.ts';
import { FeedHost } from './feed-host.ts';

const STEPS = 60;
const NAMES = ['a', 'b', 'c'] as const;

type Name = (typeof NAMES)[number];

interface Snapshot {
  readonly entries: readonly Entry[];
  readonly revision: number;
}

class StoreTrial implements Trial {
  readonly #t: Test;
  readonly #random: Random;
  readonly #hosts = new Map<Name, FeedHost>();
  readonly #directories: string[] = [];
  /** What each record may be in the end, as JSON; `gone` if there may be none. */
  readonly #may = new Map<string, Set<string>>();
  /** Records that somebody has deleted. */
  readonly #deleted = new Set<string>();
  readonly #seen = new Map<Name, Set<string>>();
  readonly steps: string[] = [];
  readonly #snapshots: Snapshot[] = [];
  #store: Store;
  #history = '';
  #restores = 0;
  #count = 0;

  constructor(t: Test, random: Random, store: Store) {
    this.#t = t;
    this.#random = random;
    this.#store = store;
  }

  async run(): Promise<void> {
    for (const name of NAMES) await this.#start(name);
    for (let step = 0; step < STEPS; step++) {
      const name = NAMES[this.#random.int(NAMES.length)]!;
      await this.#step(name, this.#hosts.get(name)!);
      for (const one of NAMES) await this.#hosts.get(one)!.settle();
      this.#check();
    }
    await this.#heal();
    await this.stop();
  }

  async stop(): Promise<void> {
    for (const host of this.#hosts.values()) await host.stop().catch(() => {});
    for (const directory of this.#directories) rmSync(directory, { recursive: true, force: true });
  }

  async #step(name: Name, host: FeedHost): Promise<void> {
    const random = this.#random;
    const choice = random.int(100);
    if (choice < 30) return this.#operate(name, `endpoints/default/${name}-${random.int(6)}`, this.#endpoint(name));
    if (choice < 42) return this.#operate(name, `endpoints/default/${name}-${random.int(6)}`, undefined);
    if (choice < 46) return this.#operate(name, `endpoints/default/common-${random.int(2)}`, this.#endpoint(name));
    if (choice < 54) return this.#operate(name, `networks/n${random.int(4)}`, { n: ++this.#count });
    if (choice < 57) return this.#operate(name, `networks/n${random.int(4)}`, undefined);
    if (choice < 60) {
      const other = NAMES[random.int(NAMES.length)]!;
      return this.#operate(name, `endpoints/default/${other}-${random.int(6)}`, undefined);
    }
    if (choice < 72) {
      this.#note(name, 'away');
      return host.link.away();
    }
    if (choice < 84) return this.#back(name);
    if (choice < 87) {
      this.#note(name, 'loses its place');
      return host.link.compact();
    }
    if (choice < 90) {
      this.#note(name, 'loses an answer');
      host.link.losesAnswer = true;
      return this.#operate(name, `endpoints/default/${name}-${random.int(6)}`, this.#endpoint(name));
    }
    if (choice < 93) return this.#restart(name, host);
    if (choice < 96) return this.#kill(name, host);
    if (choice < 98) {
      this.#note(name, 'snapshot of the store');
      const { entries, revision } = await this.#store.list('');
      this.#snapshots.push({ entries, revision });
      return undefined;
    }
    return this.#restore();
  }

  /** An endpoint with the one address that belongs to this name. */
  #endpoint(name: Name): (key: string) => object {
    const n = ++this.#count;
    return (key) => {
      const last = 10 * (NAMES.indexOf(name) + 1) + Number(key.at(-1)) + (key.includes('common') ? 100 : 0);
      const address = `10.0.0.${last}`;
      return {
        host: name,
        resource: { kind: 'Endpoint', spec: { network: 'blue' }, n },
        addresses: [address],
        mac: `02:00:00:00:00:${last}`,
      };
    };
  }

  async #operate(name: Name, key: string, wanted: ((key: string) => object) | object | undefined): Promise<void> {
    const host = this.#hosts.get(name)!;
    const value = typeof wanted === 'function' ? (wanted as (key: string) => object)(key) : wanted;
    if (value === undefined && !host.inForce.has(key)) return;
    const known = host.inForce.get(key)?.value as { readonly host?: string } | undefined;
    // A name that another host has is not taken over.
    if (value && known?.host !== undefined && known.host !== name) return;
    this.#note(name, `${value ? 'put' : 'delete'} ${key} ${JSON.stringify(value ?? '')}`);
    // As long as hosts are cut off or the store was restored, what counts in the end may be older.
    const mayBe = this.#may.get(key) ?? new Set(['gone']);
    const result = value === undefined ? 'gone' : JSON.stringify(value);
    if (value === undefined) this.#deleted.add(key);
    try {
      await host.set(key, value);
      if (this.#isCalm()) mayBe.clear();
      mayBe.add(result);
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      this.steps.push(`  refused: ${error.message}`);
      if (error.code !== 'unreachable' && error.code !== 'conflict') throw error;
      if (error.message.includes('whether it was stored')) mayBe.add(result);
    }
    this.#may.set(key, mayBe);
  }

  #isCalm(): boolean {
    return NAMES.every((name) => {
      const { link, report } = this.#hosts.get(name)!;
      return link.health().isReachable && report.pending.length === 0 && report.signs.length === 0;
    });
  }

  #back(name: Name): void {
    const host = this.#hosts.get(name)!;
    if (host.link.health().isReachable) return;
    this.#note(name, 'back');
    host.link.back(this.#store, this.#history);
  }

  async #restart(name: Name, host: FeedHost): Promise<void> {
    this.#note(name, 'restart');
    await host.stop();
    await this.#start(name, host.directory, !host.link.health().isReachable);
  }

  /** What is on its disk at some moment, in the middle of an operation, is all that the next daemon has. */
  async #kill(name: Name, host: FeedHost): Promise<void> {
    const operation = this.#operate(name, `endpoints/default/${name}-${this.#random.int(6)}`, this.#endpoint(name));
    const turns = this.#random.int(12);
    for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
    const isAway = !host.link.health().isReachable;
    // It can do nothing any more.
    host.link.away();
    const directory = this.#directory();
    cpSync(host.directory, directory, { recursive: true });
    this.#note(name, `killed after ${turns} turns`);
    // What it was about to do may have been done, or not.
    const before = new Map([...this.#may].map(([key, all]) => [key, new Set(all)]));
    await operation;
    for (const [key, all] of before) for (const one of all) this.#may.get(key)!.add(one);
    await host.stop();
    await this.#start(name, directory, isAway);
  }

  #directory(): string {
    const directory = mkdtempSync(join(tmpdir(), `weft-feed-${process.pid}-`));
    this.#directories.push(directory);
    return directory;
  }

  async #start(name: Name, known?: string, isAway = false): Promise<void> {
    const history = this.#history;
    const host = await FeedHost.start(name, this.#store, { known: known ?? this.#directory(), isAway, history });
    this.#hosts.set(name, host);
    // What it has in force may be older, or newer, than what the last daemon had at the moment when it was killed.
    this.#seen.set(name, new Set(host.inForce.keys()));
  }

  async #restore(): Promise<void> {
    const snapshot = this.#snapshots[this.#random.int(this.#snapshots.length + 1)] ?? { entries: [], revision: 0 };
    this.#note('a', `restore of ${snapshot.entries.length} records at ${snapshot.revision}`);
    const store = await openStore(this.#t);
    for (let at = 1; at <= snapshot.revision; at++) {
      const written = snapshot.entries.filter((entry) => entry.revision === at);
      await store.transact({ put: written.map(({ key, value }) => ({ key, value })) });
    }
    this.#store = store;
    // Snapshots of another store may not be restored to this one: their revisions mean nothing there.
    this.#history = this.#random.int(2) === 0 ? this.#history : `-${++this.#restores}`;
    for (const { key, value } of snapshot.entries) if (key !== 'format') this.#allow(key, JSON.stringify(value));
    for (const key of this.#may.keys()) this.#allow(key, 'gone');
    for (const name of NAMES) {
      const host = this.#hosts.get(name)!;
      const isAway = !host.link.health().isReachable;
      host.link.away();
      if (!isAway) host.link.back(store, this.#history);
    }
  }

  #allow(key: string, value: string): void {
    const mayBe = this.#may.get(key);
    // What one host has of its own, that host writes again.
    const isOwn = /^endpoints\/default\/[abc]-/.test(key);
    if (!isOwn) this.#may.set(key, new Set([...(mayBe ?? ['gone']), value]));
  }

  #check(): void {
    for (const name of NAMES) {
      const host = this.#hosts.get(name)!;
      const seen = this.#seen.get(name)!;
      const lost = host.report.lost.join();
      for (const key of seen) {
        if (host.inForce.has(key) || this.#deleted.has(key)) continue;
        if (!lost.includes(`"${key.split('/').at(-1)}"`)) throw new Error(`${name} lost ${key}, which nobody deleted`);
      }
      this.#seen.set(name, new Set(host.inForce.keys()));
      const owners = new Map<string, string>();
      for (const [key, { value }] of host.inForce) {
        for (const address of (value as { readonly addresses?: string[] }).addresses ?? []) {
          const other = owners.get(address);
          if (other !== undefined) throw new Error(`${name}: ${address} is of ${other} and of ${key}`);
          owners.set(address, key);
        }
      }
    }
  }

  async #heal(): Promise<void> {
    this.steps.push('healed');
    for (const name of NAMES) {
      this.#hosts.get(name)!.link.losesAnswer = false;
      this.#back(name);
    }
    const isQuiet = (host: FeedHost): boolean => {
      const { pending, reachable, refused } = host.report;
      return reachable && refused === undefined && pending.length === 0 && host.isStarted;
    };
    for (const name of NAMES) {
      const host = this.#hosts.get(name)!;
      await host.until(() => isQuiet(host), 'its own records to be written');
    }
    for (const name of NAMES) await this.#hosts.get(name)!.settle();
    this.#check();
    for (const name of NAMES) await this.#hosts.get(name)!.accept();
    // Everything that is under way arrives before this.
    const [first] = NAMES;
    await this.#hosts.get(first)!.set('networks/last', {});
    for (const name of NAMES) {
      const host = this.#hosts.get(name)!;
      await host.until(() => host.inForce.has('networks/last'), 'the last change');
      const { entries } = await this.#store.list('');
      const stored = Object.fromEntries(
        entries.filter(({ key }) => key !== 'format').map(({ key, value }) => [key, value]),
      );
      const values = host.values();
      if (!sameJson(values, stored)) {
        throw new Error(`${name} has ${JSON.stringify(values)}, and the store ${JSON.stringify(stored)}`);
      }
      if (host.report.audit.mismatches > 0) throw new Error(`${name}: mismatches`);
    }
    const end = this.#hosts.get(first)!.inForce;
    for (const [key, mayBe] of this.#may) {
      const value = end.get(key)?.value;
      const is = value === undefined ? 'gone' : JSON.stringify(value);
      if (!mayBe.has(is)) throw new Error(`${key} is ${is}, which is none of ${[...mayBe].join(' | ')}`);
    }
  }

  #note(name: string, what: string): void {
    this.steps.push(`${name}: ${what}`);
  }
}

function sameJson(a: Record<string, unknown>, b: Record<string, unknown>): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

runTrials(8, 'all agree', async (t, random) => new StoreTrial(t, random, await openStore(t)));
