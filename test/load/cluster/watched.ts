/**
 *   ┌ host ──────────┐              ┌ world ───────────────────────┐
 *   │ c0 … c9 ─ weft │── underlay ──│ etcd, the control planes of  │
 *   └────────────────┘              │ many hosts, and their VTEPs  │
 *                                   └──────────────────────────────┘
 *
 * One daemon in a cluster of up to a thousand hosts with a hundred thousand endpoints, which are played on a real etcd
 * (`players.ts`). At each size the daemon is started anew, rests, follows endpoints that come and go, and lists everything again
 * after etcd has forgotten what it missed.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startEtcd, type Etcd } from '../../support/etcd.ts';
import { Lab, type Namespace } from '../../support/lab.ts';
import { monotonicMs, until } from '../../support/process.ts';
import { underlayLink } from '../../support/topology.ts';
import { python } from '../../support/traffic.ts';
import { Weft } from '../../support/weft.ts';
import { MIB } from '../memory.ts';
import type { LoadOptions, Report, Scenario } from '../scenario.ts';
import {
  Asking,
  EtcdMeter,
  ownDelays,
  percentile,
  tellUsage,
  Usage,
  usedMemory,
  type Delays,
  type TellValue,
} from './daemon.ts';
import { NETWORKS, networkName, subnetOf } from './endpoint-records.ts';
import {
  Player,
  type Added,
  type Arrived,
  type Churned,
  type PlayerOrder,
  type Touched,
  type VtepOrder,
} from './players.ts';

const HOST = '192.0.2.1';
const WORLD = '192.0.2.254';
/** The part of the endpoints that come, at most, whose first frame is waited for, a second. */
const PROBED_PER_SECOND = 10;
/** How long the last of them may take. */
const PATIENCE_MS = 10_000;
/** How often it lists everything again, at each size. */
const LISTINGS = 2;
/** How often something is changed, so that a daemon that was away has missed it. */
const TOUCHES = 10;
/** How long a listing may take on a busy machine. */
const LISTING_MS = 300_000;
/** Of a daemon: until its processor time and memory have settled after a start. */
const SETTLED_MS = 3000;
/** With fewer endpoints, the memory of each, and the time that their listing takes, disappear among everything else. */
const TELLING_ENDPOINTS = 5000;

const promises = { reachableP99Ms: 1000, endpointBytes: 2048, delayP99Ms: 20, delayWorstMs: 100 } as const;

export const watched: readonly Scenario[] = [{ name: 'cluster/watched', run }];

async function run(report: Report, { sizes }: LoadOptions): Promise<void> {
  const lab = new Lab();
  try {
    const scene = await Scene.open(lab);
    await scene.compareRecords();
    const empty = await scene.memory();
    for (const endpoints of sizes.watched) {
      const hosts = Math.max(1, Math.round(endpoints / sizes.endpointsPerHost));
      await scene.measure(report, { hosts, endpoints, churn: sizes.churn, window: sizes.window, empty });
    }
  } finally {
    await lab.close();
  }
}

type Memory = Awaited<ReturnType<typeof usedMemory>>;

interface Size {
  readonly hosts: number;
  readonly endpoints: number;
  /** Endpoints that come, and that go, a second. */
  readonly churn: number;
  /** For how many seconds it rests, and they come and go. */
  readonly window: number;
  /** The daemon's memory before there was any other host. */
  readonly empty: Memory;
}

/** The daemon, the hosts around it, and a sender in each of its containers. */
class Scene {
  readonly #weft: Weft;
  readonly #etcd: Etcd;
  readonly #meter: EtcdMeter;
  readonly #planes: Player<PlayerOrder>;
  readonly #vteps: Player<VtepOrder>;
  readonly #sender: ReturnType<Namespace['start']>;

  private constructor(
    weft: Weft,
    etcd: Etcd,
    meter: EtcdMeter,
    planes: Player<PlayerOrder>,
    vteps: Player<VtepOrder>,
    sender: ReturnType<Namespace['start']>,
  ) {
    this.#weft = weft;
    this.#etcd = etcd;
    this.#meter = meter;
    this.#planes = planes;
    this.#vteps = vteps;
    this.#sender = sender;
  }

  static async open(lab: Lab): Promise<Scene> {
    const [host, world] = [await lab.namespace('host'), await lab.namespace('world')];
    await lab.cable(host, underlayLink, world, underlayLink);
    await host.ip(`addr add ${HOST}/24 dev ${underlayLink}`);
    await world.ip(`addr add ${WORLD}/24 dev ${underlayLink}`);
    // All addresses of the hosts that are played are addresses of the world.
    await world.ip('route add local 172.16.0.0/12 dev lo');
    await host.ip(`route add 172.16.0.0/12 via ${WORLD}`);
    const etcd = await startEtcd(lab, { members: [{ namespace: world, address: WORLD }] });
    const meter = await EtcdMeter.open(host, etcd);
    const weft = await Weft.up(lab, host, 'host', {
      datapath: 'native',
      underlay: HOST,
      collectable: true,
      arguments: ['--store', etcd.url],
    });
    const networks = Array.from({ length: NETWORKS }, (_, network) => network);
    const containers = await lab.namespaces(networks.map((network) => `c${network}`));
    for (const network of networks) {
      await weft.client.createNetwork(networkName(network), { subnets: [subnetOf(network)] });
      await weft.client.attach({
        name: `local-${network}`,
        network: networkName(network),
        netns: containers[network]!.name,
      });
    }
    const sender = lab.start(python('udp_reach.py', ...containers.map(({ path }) => path)));
    const planes = await Player.start<PlayerOrder>(lab, world, 'players.process.ts', etcd.members[0]!.clientAddress);
    const vteps = await Player.start<VtepOrder>(lab, world, 'vteps.process.ts', HOST);
    return new Scene(weft, etcd, meter, planes, vteps, sender);
  }

  /** @throws Error if what is played is not as the daemon writes it */
  async compareRecords(): Promise<void> {
    await this.#planes.order({ kind: 'fill', hosts: 1, endpoints: 1 });
    refuseOtherShapes(await this.#records());
  }

  memory(): Promise<Memory> {
    return usedMemory(this.#weft);
  }

  async measure(report: Report, { hosts, endpoints, churn, window, empty }: Size): Promise<void> {
    const value = (name: string, figure: number, unit: string): void => report.value(name, figure, unit, endpoints);
    await this.#weft.stop();
    const filledMs = await timed(() => this.#planes.order({ kind: 'fill', hosts, endpoints }));
    report.figure(`${endpoints} endpoints on ${hosts} hosts: written in ${(filledMs / 1000).toFixed(1)} s`);
    await this.#vteps.order({ hosts, key: await this.#probeKey() });

    rmSync(join(this.#weft.state, 'copy'), { force: true });
    value('start without a copy', await timed(() => this.#weft.start()), 'ms');
    await this.#knows(endpoints);
    await this.#weft.kill();
    const killedMs = monotonicMs();
    value('start with a copy, after a kill', await timed(() => this.#weft.start()), 'ms');
    const isKnown = await this.#touch();
    await until(isKnown, { what: 'what is new is known', timeoutMs: LISTING_MS });
    value('what is new is known after a kill', monotonicMs() - killedMs, 'ms');
    await delay(SETTLED_MS);

    const { heapBytes, residentBytes } = await this.memory();
    const usedBytes = heapBytes - empty.heapBytes;
    value('memory in use for the cluster', usedBytes / MIB, 'MiB');
    value('resident memory', residentBytes / MIB, 'MiB');
    if (endpoints >= TELLING_ENDPOINTS) {
      const endpointBytes = usedBytes / endpoints;
      value('memory in use for each endpoint', endpointBytes, 'bytes');
      report.must(
        endpointBytes <= promises.endpointBytes,
        `${endpointBytes.toFixed(0)} bytes for each of ${endpoints} endpoints, with all of their hosts and blocks`,
      );
    }

    await ownDelays(this.#weft);
    const resting = await Usage.start(this.#weft, this.#meter);
    await delay(window * 1000);
    tellUsage('at rest', value, await resting.stop());
    await this.#churn(report, value, { churn, window, endpoints });
    await this.#listAgain(report, value, endpoints);
  }

  /** Endpoints come and go: when the first frame to a new one arrives at its host, and what that costs. */
  async #churn(
    report: Report,
    value: TellValue,
    { churn, window, endpoints }: Pick<Size, 'churn' | 'window' | 'endpoints'>,
  ): Promise<void> {
    const added = new Map<string, Added>();
    const reachedMs = new Map<string, number>();
    this.#planes.onTold = (one) => {
      added.set(one.address, one as Added);
      this.#sender.write(`+ ${(one as Added).network} ${one.address}\n`);
    };
    this.#vteps.onTold = (told) => {
      const { address, underlay, atMs } = told as Arrived;
      const one = added.get(address);
      if (!one) return;
      if (one.underlay !== underlay) throw new Error(`a frame to ${address} came to ${underlay}, not ${one.underlay}`);
      reachedMs.set(address, atMs - one.atMs);
      this.#sender.write(`- ${address}\n`);
    };
    await ownDelays(this.#weft);
    const usage = await Usage.start(this.#weft, this.#meter);
    const asking = new Asking(this.#weft);
    const churned = (await this.#planes.order({
      kind: 'churn',
      perSecond: churn,
      seconds: window,
      told: PROBED_PER_SECOND,
    })) as { kind: 'churned' } & Churned;
    const used = await usage.stop();
    await until(() => reachedMs.size === added.size, { timeoutMs: PATIENCE_MS, what: 'all are reached' }).catch(
      () => {},
    );
    for (const address of added.keys()) this.#sender.write(`- ${address}\n`);
    const [own, asked] = [await ownDelays(this.#weft), await asking.stop()];
    const rate = churned.changes / churned.seconds;
    report.figure(
      `endpoints come and go: ${rate.toFixed(0)} changes/s, ${(churned.writes / churned.seconds).toFixed(0)} writes/s in all`,
    );
    tellUsage('under churn', value, used);
    tellDelays('under churn', value, own, asked);
    const all = [...reachedMs.values()];
    if (all.length === 0) throw new Error('no new endpoint was reached');
    const p99Ms = percentile(all, 99);
    value('new endpoint reachable, p50', percentile(all, 50), 'ms');
    value('new endpoint reachable, p99', p99Ms, 'ms');
    report.must(
      all.length === added.size && p99Ms <= promises.reachableP99Ms,
      `${all.length} of ${added.size} new endpoints among ${endpoints} are reachable, p99 after ${p99Ms.toFixed(0)} ms`,
    );
  }

  /** etcd forgets what the daemon has missed while it was cut off: it lists everything, and compares. */
  async #listAgain(report: Report, value: TellValue, endpoints: number): Promise<void> {
    const worst = { own: { p99Ms: 0, worstMs: 0 }, asked: { p99Ms: 0, worstMs: 0 } };
    const [tookMs, waiting]: [number[], number[]] = [[], []];
    for (let time = 0; time < LISTINGS; time++) {
      await this.#meter.cut();
      await until(async () => !(await this.#weft.status()).sharedStore!.reachable, { what: 'the daemon is cut off' });
      const isListed = await this.#touch();
      await this.#etcd.compact();
      await ownDelays(this.#weft);
      const usage = await Usage.start(this.#weft, this.#meter);
      const asking = new Asking(this.#weft);
      await this.#meter.mend();
      tookMs.push(await timed(() => until(isListed, { what: 'all is listed', timeoutMs: LISTING_MS })));
      waiting.push((await usage.stop()).waiting);
      const [asked, own] = [await asking.stop(), await ownDelays(this.#weft)];
      for (const [name, delays] of Object.entries({ own, asked })) {
        const seen = worst[name as keyof typeof worst];
        seen.p99Ms = Math.max(seen.p99Ms, delays.p99Ms);
        seen.worstMs = Math.max(seen.worstMs, delays.worstMs);
      }
    }
    value('connected again, and everything listed', Math.max(...tookMs), 'ms');
    value('event loop waits for a processor while listing', Math.max(...waiting), '%');
    tellDelays('while listing', value, worst.own, worst.asked);
    if (endpoints < TELLING_ENDPOINTS) return;
    const { p99Ms, worstMs } = worst.own;
    report.must(
      p99Ms <= promises.delayP99Ms && worstMs <= promises.delayWorstMs,
      `while ${endpoints} endpoints are listed, the event loop is late by p99 ${p99Ms.toFixed(1)} ms, ${worstMs.toFixed(1)} ms at most`,
    );
  }

  /** Changes something. @returns a function that tells whether the daemon has it in force */
  async #touch(): Promise<() => Promise<boolean>> {
    const { name, label } = (await this.#planes.order({ kind: 'touch', times: TOUCHES })) as Touched;
    return async () => {
      const [endpoint] = await this.#weft.client.get('Endpoint', name);
      return endpoint!.metadata.labels['touched'] === label;
    };
  }

  async #knows(endpoints: number): Promise<void> {
    await until(async () => (await this.#weft.status()).endpoints >= endpoints, {
      what: `${endpoints} endpoints`,
      timeoutMs: LISTING_MS,
    });
  }

  /** All that is stored, by key. */
  async #records(): Promise<ReadonlyMap<string, unknown>> {
    const lines = (await this.#etcd.ctl(['get', 'weft/', '--prefix'])).split('\n');
    const pairs = Array.from({ length: Math.floor(lines.length / 2) }, (_, at) => lines.slice(2 * at, 2 * at + 2));
    return new Map(pairs.map(([key = '', value = '']) => [key.slice('weft/'.length), JSON.parse(value) as unknown]));
  }

  async #probeKey(): Promise<string> {
    const text = await this.#etcd.ctl(['get', 'weft/state/keys/probe', '--print-value-only']);
    return (JSON.parse(text) as { readonly key: string }).key;
  }
}

function tellDelays(when: string, value: TellValue, own: Delays, asked: Delays): void {
  value(`event loop late ${when}, p99`, own.p99Ms, 'ms');
  value(`event loop late ${when}, worst`, own.worstMs, 'ms');
  value(`answer of the API ${when}, p99`, asked.p99Ms, 'ms');
  value(`answer of the API ${when}, worst`, asked.worstMs, 'ms');
}

/** Records whose writers are played must look like those that the daemon has written. */
const PLAYED = ['state/hosts/', 'state/host-claims/', 'state/blocks/', 'state/endpoints/'];

/** @throws Error if a record is not as a host writes it */
function refuseOtherShapes(records: ReadonlyMap<string, unknown>): void {
  for (const prefix of PLAYED) {
    const shapes = new Map<string, string[]>();
    for (const [key, value] of records) {
      if (!key.startsWith(prefix)) continue;
      const shape = shapeOf(value);
      shapes.set(shape, [...(shapes.get(shape) ?? []).slice(0, 2), key]);
    }
    if (shapes.size !== 1) throw new Error(`records differ below ${prefix}: ${JSON.stringify([...shapes])}`);
  }
}

/** Names and kinds of everything in a value, in any order. */
function shapeOf(value: unknown): string {
  if (Array.isArray(value)) return `[${[...new Set(value.map(shapeOf))].sort().join()}]`;
  if (typeof value !== 'object' || value === null) return typeof value;
  const fields = Object.entries(value).map(([name, one]) => `${name}:${shapeOf(one)}`);
  return `{${fields.sort().join()}}`;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = monotonicMs();
  await work();
  return monotonicMs() - startedMs;
}
