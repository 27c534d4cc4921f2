/**
 * Whatever happens to a shared store, a host follows it again when all is well, within a number of ticks. Two hosts, of
 * which each reaches the store by a connection of its own, and a third writer; in any order, and at any point of what is
 * under way:
 *
 *   - the store is emptied, or put back to a snapshot, with the same or another name of its history, which one host meets
 *     earlier than the other, also by turns with the one before
 *   - connections are lost, watches lose their place, answers get lost, fail or come late
 *   - this host's own store refuses writes
 *   - records are written and deleted, also before anybody knows of the restore, and what is held is accepted
 *
 * In the end both follow the store: what is written then is in force on both soon, and when what is held is accepted, both
 * have exactly what the store has.
 */
import { rmSync } from 'node:fs';
import type { Test } from 'tap';
import { WeftError } from '../../src/error.ts';
import { readFormat } from '../../src/cluster/feed/store-identity.ts';
import type { Entry, Store } from '../../src/store/store.ts';
import type { Random } from '../support/random.ts';
import { Hooked } from '../support/switch.ts';
import { runTrials, type Trial } from '../support/trials.ts';
import { openStore } from './control-plane.ts';
import { endpointOf, FeedHost } from './feed-host.ts';

const STEPS = 120;
/** More than pass between two attempts. */
const TICKS = 30;
const MOST_TICKS_UNDER_WAY = 400;
const TURNS_PER_TICK = 20;
const NAMES = ['a', 'b'] as const;

interface Place {
  readonly store: Store;
  readonly history: string;
  /** The epoch that its snapshot had, if the history goes on under the same name. */
  readonly restored?: string | undefined;
}

class StoreTrial implements Trial {
  readonly #t: Test;
  readonly #random: Random;
  readonly #hosts: FeedHost[] = [];
  readonly #own: Hooked[] = [];
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #held: (() => void)[] = [];
  readonly #snapshots: (readonly Entry[])[] = [[]];
  #place: Place;
  #before: Place;
  #isWell = false;
  #count = 0;
  #defect: Error | undefined;
  readonly steps: string[] = [];

  constructor(t: Test, random: Random, store: Store) {
    this.#t = t;
    this.#random = random;
    this.#place = { store, history: '' };
    this.#before = this.#place;
  }

  async run(): Promise<void> {
    for (const name of NAMES) {
      const wrap = (own: Store): Store => {
        const hooked = new Hooked(own);
        this.#own.push(hooked);
        return hooked;
      };
      const host = await FeedHost.start(name, this.#place.store, { wrap });
      host.link.beforeCall = (call) => this.#disturb(`${name} ${call}`);
      this.#hosts.push(host);
    }
    for (let step = 0; step < STEPS; step++) {
      await this.#step(this.#random.pick(this.#hosts));
      await turns(this.#random.int(6));
    }
    await this.#heal();
  }

  async stop(): Promise<void> {
    for (const host of this.#hosts) {
      await host.stop().catch(() => {});
      rmSync(host.directory, { recursive: true, force: true });
    }
  }

  /** A call fails, or its answer comes late. */
  async #disturb(call: string): Promise<void> {
    if (this.#isWell) return;
    if (this.#random.chance(0.08)) {
      this.steps.push(`  ${call} fails`);
      throw new WeftError('unreachable', 'no answer within 5 s');
    }
    if (!this.#random.chance(0.15)) return;
    this.steps.push(`  ${call} waits`);
    await new Promise<void>((resolve) => this.#held.push(resolve));
  }

  async #step(host: FeedHost): Promise<void> {
    const random = this.#random;
    const { link, name } = host;
    const choice = random.int(100);
    const note = (what: string): void => void this.steps.push(`${name}: ${what}`);
    if (choice < 14) {
      note('writes');
      const key = `endpoints/default/${name}${random.int(4)}`;
      return this.#begin(host.set(key, random.chance(0.3) ? undefined : this.#endpoint(name, key)));
    }
    if (choice < 22) {
      note('writes a network');
      return this.#begin(host.set(`networks/n${random.int(3)}`, random.chance(0.3) ? undefined : { n: ++this.#count }));
    }
    if (choice < 36) return this.#writeElsewhere();
    if (choice < 50) return this.#held.splice(random.int(3), 1).forEach((answer) => answer());
    if (choice < 60) {
      this.#hosts.forEach((one) => one.feed.tick());
      return host.passTime();
    }
    if (choice < 66) {
      note('is away');
      return link.away();
    }
    if (choice < 76) {
      note('is back');
      return this.#connect(host, this.#place);
    }
    if (choice < 79) {
      note('meets the store from before');
      return this.#connect(host, this.#before);
    }
    if (choice < 82) {
      note('loses its place');
      return link.compact();
    }
    if (choice < 85) {
      note('loses an answer');
      link.losesAnswer = true;
      return undefined;
    }
    if (choice < 88) {
      note('accepts');
      return this.#begin(host.accept());
    }
    if (choice < 91) {
      note('cannot write what it keeps');
      const hooked = this.#own[this.#hosts.indexOf(host)]!;
      let left = random.int(3);
      hooked.beforeTransact = async () => {
        if (left-- > 0 && !this.#isWell) throw new WeftError('system', 'no space left on device');
      };
      return undefined;
    }
    if (choice < 94) {
      this.steps.push('a snapshot');
      return void this.#snapshots.push((await this.#place.store.list('')).entries);
    }
    if (choice < 97) return host.feed.audit();
    return this.#restore();
  }

  #endpoint(name: string, key: string): object {
    return endpointOf(name, `10.0.0.${name === 'a' ? 1 : 2}${key.at(-1)}`, { n: ++this.#count });
  }

  #begin(work: Promise<unknown>): void {
    const ended = work
      .catch((error: unknown) => {
        if (!(error instanceof WeftError)) this.#defect ??= error as Error;
        this.steps.push(`  refused: ${(error as Error).message}`);
      })
      .finally(() => this.#underWay.delete(ended));
    this.#underWay.add(ended);
  }

  async #writeElsewhere(): Promise<void> {
    const key = `endpoints/default/c${this.#random.int(4)}`;
    this.steps.push(`c: writes ${key}`);
    const { store } = this.#place;
    await this.#noticeElsewhere(this.#place);
    if (this.#random.chance(0.4)) return void (await store.transact({ delete: [key] }));
    const value = { ...endpointOf('c', `10.0.0.3${key.at(-1)}`), n: ++this.#count };
    await store.transact({ put: [{ key, value }] });
  }

  /**
   * The third writer has followed the store, too: before it writes, it tells of a restore that nobody else has noticed. If
   * nobody did, a store could reach the revisions that it had before with other contents, and nothing would show that.
   */
  async #noticeElsewhere({ store, history, restored }: Place): Promise<void> {
    if (restored === undefined) return;
    const { entries, revision, history: own } = await store.list('');
    const entry = entries.find(({ key }) => key === 'format');
    if (!entry) return;
    const format = readFormat(entry);
    if (format.epoch.id !== restored) return;
    this.steps.push('c: notices the restore');
    const epoch = { id: `c-${++this.#count}`, history: own + history, revision };
    const expect = [{ key: 'format', revision: entry.revision }];
    await store.transact({ expect, put: [{ key: 'format', value: { ...format, epoch } }] }).catch(() => {});
  }

  async #restore(): Promise<void> {
    const entries = this.#random.pick(this.#snapshots);
    const isSame = this.#random.chance(0.6);
    this.steps.push(`restore of ${entries.length} records, ${isSame ? 'the same' : 'another'} history`);
    const store = await openStore(this.#t);
    const revision = Math.max(0, ...entries.map((one) => one.revision));
    for (let at = 1; at <= revision; at++) {
      const put = entries.filter((one) => one.revision === at).map(({ key, value }) => ({ key, value }));
      await store.transact({ put });
    }
    this.#before = this.#place;
    const format = entries.find(({ key }) => key === 'format');
    const restored = isSame && format ? readFormat(format).epoch.id : undefined;
    this.#place = { store, history: isSame ? this.#place.history : `-${++this.#count}`, restored };
    for (const host of this.#hosts) {
      host.link.away();
      if (this.#random.chance(0.6)) this.#connect(host, this.#place);
    }
  }

  #connect({ link }: FeedHost, { store, history }: Place): void {
    link.away();
    link.back(store, history);
  }

  async #heal(): Promise<void> {
    this.steps.push('all is well');
    this.#isWell = true;
    for (const host of this.#hosts) {
      host.link.losesAnswer = false;
      this.#connect(host, this.#place);
    }
    for (const answer of this.#held.splice(0)) answer();
    await this.#until(() => this.#underWay.size === 0, 'what is under way to end', MOST_TICKS_UNDER_WAY);
    if (this.#defect) throw this.#defect;
    await this.#until(() => this.#hosts.every(({ report }) => report.pending.length === 0), 'their own records');
    for (const [n, host] of this.#hosts.entries())
      await host.accept().catch((error: unknown) => this.#cannotAccept(n, error));
    await this.#place.store.transact({ put: [{ key: 'networks/last', value: {} }] });
    for (const host of this.#hosts)
      await this.#until(() => host.inForce.has('networks/last'), `${host.name}: the last`);
    const same = async (): Promise<boolean> => {
      for (const host of this.#hosts) await host.accept();
      const { entries } = await this.#place.store.list('');
      const kept = entries.filter(({ key }) => key !== 'format').map(({ key, value }) => [key, value]);
      const stored = JSON.stringify(Object.fromEntries(kept));
      return this.#hosts.every((host) => JSON.stringify(host.values()) === stored);
    };
    await this.#until(same, 'exactly what the store has');
  }

  #cannotAccept(n: number, error: unknown): never {
    throw new Error(`${NAMES[n]} cannot accept: ${(error as Error).message}`);
  }

  async #until(isSo: () => boolean | Promise<boolean>, what: string, most = TICKS): Promise<void> {
    for (let tick = 0; tick < most; tick++) {
      for (let turn = 0; turn < TURNS_PER_TICK; turn++) {
        if (await isSo()) return;
        await new Promise((resolve) => setTimeout(resolve, 1));
        // What waits for time is not done, as the store has answered everything.
        for (const host of this.#hosts) host.passTime();
        for (const host of this.#hosts) void host.settle();
      }
      for (const host of this.#hosts) host.feed.tick();
    }
    const all = this.#hosts.map(
      (host) => `${host.name} ${JSON.stringify(host.report)} ${JSON.stringify(host.values())}`,
    );
    const { entries } = await this.#place.store.list('');
    const logs = this.#hosts.map(({ log }) => log.slice(-6).join('\n    '));
    throw new Error([`in vain for ${what}`, ...all, JSON.stringify(entries), ...logs].join('\n  '));
  }
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

runTrials(15, 'both follow the store', async (t, random) => new StoreTrial(t, random, await openStore(t)));
