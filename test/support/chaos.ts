/**
 * The chaos of `test/long/chaos.ts`: disturbances of many hosts and their store, drawn from a seed, and what must be
 * true during and after them.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { EndpointReport } from '../../src/model/report.ts';
import { ChaosLog } from './chaos-log.ts';
import { openLab, type Lab } from './lab.ts';
import { ManyHosts, type LabHost, type Machine } from './many-hosts.ts';
import { monotonicMs, until } from './process.ts';
import { Random } from './random.ts';
import { TaggedTraffic, type Lost, type Talker } from './tagged.ts';
import { overlay } from './topology.ts';
import { conservationError, type DatapathKind } from './weft.ts';

export interface ChaosOptions {
  readonly seconds: number;
  readonly seed: number;
  readonly hosts: number;
  readonly members: number;
  readonly datapath: DatapathKind;
  /** Nothing else goes wrong; by default, everything may. */
  readonly only?: readonly Trouble[];
  /** How soon all agree again after everything is healed; without it, when they do decides nothing. */
  readonly agreeWithinMs?: number;
}

/** What a disturbance is about: members of etcd, what etcd has, daemons, or the network between machines. */
export const troubles = ['etcd', 'store', 'daemon', 'network'] as const;
export type Trouble = (typeof troubles)[number];

const CONTAINERS_PER_HOST = 2;
/** A pair whose hosts were cut off from each other may need this long until it is noticed that they are not any more. */
const RECOVERY_MS = 5000;
/** A datagram that was on its way when a disturbance began may be lost with it. */
const ON_ITS_WAY_MS = 200;

/** Something that goes wrong, and is put right. */
interface Disturbance {
  readonly what: string;
  /** The daemon or the member of etcd that it is done to, if it is one. */
  readonly to?: string;
  /** Pairs of hosts whose traffic may suffer. */
  readonly between: readonly (readonly [string, string])[];
  begin(): Promise<void>;
  end(): Promise<void>;
}

/** When traffic between two hosts, or of one, may have been lost. */
interface Suffering {
  readonly between: readonly [string, string];
  readonly fromMs: number;
  toMs: number;
}

export async function chaos(t: Test, options: ChaosOptions): Promise<void> {
  t.comment(`seed ${options.seed}`);
  const lab = openLab(t);
  const world = await ManyHosts.open(lab, { ...options, containersPerHost: CONTAINERS_PER_HOST });
  const run = new Chaos(t, lab, world, options);
  await run.settle('the beginning');
  const traffic = await TaggedTraffic.start(lab, world.containers);
  const startMs = await allHear(traffic, world.containers);
  await run.disturb(options.seconds);
  const healedMs = monotonicMs();
  await run.settle('everything is healed');
  t.comment(`all agree ${Math.round(monotonicMs() - healedMs)} ms after the last disturbance`);
  await allHear(traffic, world.containers);
  await delay(1000);
  const ledger = await traffic.stop();
  t.comment(`${ledger.sent} datagrams sent, ${ledger.received} arrived, ${ledger.lost.length} lost`);
  t.same(ledger.twice.slice(0, 10), [], 'none came twice');
  t.same(ledger.misdelivered.slice(0, 10), [], 'none came to somebody else');
  const innocent = ledger.lost.filter((lost) => lost.atMs > startMs && !run.mayLose(lost));
  for (const lost of innocent.slice(0, 10)) for (const line of run.log.around(lost)) t.comment(line);
  t.same(innocent.slice(0, 10), [], `pairs that were not cut lost none (${innocent.length})`);
  for (const { weft } of world.hosts)
    t.equal(conservationError(await weft.status()), undefined, 'frames are conserved');
}

/** Waits until each container hears each other. @returns when it began to wait for that */
async function allHear(traffic: TaggedTraffic, containers: readonly Talker[]): Promise<number> {
  const sinceMs = monotonicMs();
  await until(() => containers.every(({ name }) => traffic.heard(name, sinceMs).size === containers.length - 1), {
    what: 'all containers hear each other',
  });
  return monotonicMs();
}

class Chaos {
  readonly #t: Test;
  readonly #lab: Lab;
  readonly #world: ManyHosts;
  readonly #random: Random;
  readonly #suffering: Suffering[] = [];
  readonly #only: readonly Trouble[];
  readonly #agreeWithinMs: number;
  readonly log: ChaosLog;
  /** A snapshot of the store, from before. */
  #snapshot: string | undefined;
  #visitors = 0;

  constructor(t: Test, lab: Lab, world: ManyHosts, { seed, only = troubles, agreeWithinMs = Infinity }: ChaosOptions) {
    this.#t = t;
    this.#lab = lab;
    this.#world = world;
    this.#random = new Random(seed);
    this.#only = only;
    this.#agreeWithinMs = agreeWithinMs;
    this.log = new ChaosLog(world.hosts);
  }

  /** Makes one disturbance after the other, sometimes two at once, and comes and goes with containers meanwhile. */
  async disturb(seconds: number): Promise<void> {
    const random = this.#random;
    const endMs = monotonicMs() + seconds * 1000;
    while (monotonicMs() < endMs) {
      const chosen = [this.#draw()];
      if (random.chance(0.3)) chosen.push(this.#draw());
      // What is done to one process is done by one: a daemon that was killed cannot be followed by another.
      const begun = new Set<string>();
      const now = chosen.filter(({ what, to = what }) => !begun.has(to) && begun.add(to));
      this.#t.comment(`${now.map(({ what }) => what).join(' and ')}`);
      const sufferings = now
        .flatMap(({ between }) => between)
        .map((pair): Suffering => ({ between: pair, fromMs: monotonicMs() - ON_ITS_WAY_MS, toMs: Infinity }));
      this.#suffering.push(...sufferings);
      await this.log.sample();
      for (const one of now) {
        this.log.note(`${one.what}, from here on`);
        await one.begin();
        this.log.note(`${one.what}, is done`);
      }
      await this.#visit(500 + random.int(4000));
      for (const one of now) {
        await one.end();
        this.log.note(`${one.what}, no more`);
      }
      await this.log.sample();
      for (const one of sufferings) one.toMs = monotonicMs() + RECOVERY_MS;
      await delay(random.int(1500));
    }
  }

  /** All hosts know the same endpoints, and nothing is wrong with any. */
  async settle(what: string): Promise<void> {
    const { hosts } = this.#world;
    const startMs = monotonicMs();
    await this.#mendStore();
    let last: string[] = [];
    await until(
      async () => {
        last = await Promise.all(hosts.map(async ({ weft }) => JSON.stringify(known(await weft.client.endpoints()))));
        return new Set(last).size === 1;
      },
      { what: `all hosts agree after ${what}` },
    );
    const tookMs = Math.round(monotonicMs() - startMs);
    this.#t.ok(tookMs < this.#agreeWithinMs, `all agree in ${tookMs} ms after ${what}`);
    const endpoints = JSON.parse(last[0]!) as readonly string[];
    const addresses = endpoints.flatMap((text) => text.split(' ').slice(2));
    this.#t.equal(new Set(addresses).size, addresses.length, `no address is given twice: ${addresses.join(' ')}`);
  }

  /** True if something was wrong between the two hosts when it was sent. */
  mayLose({ from, to, atMs }: Lost): boolean {
    const [a, b] = [from[0]!, to[0]!];
    return this.#suffering.some(
      ({ between: [one, other], fromMs, toMs }) =>
        ((one === a && other === b) || (one === b && other === a)) && fromMs <= atMs && atMs <= toMs,
    );
  }

  /** An operator who sees that the store is not what it was: declares the network again, and accepts the rest. */
  async #mendStore(): Promise<void> {
    const { hosts } = this.#world;
    await until(() => hosts[0]!.weft.createNetwork(overlay.create), { what: 'the network is declared again' });
    for (const { weft } of hosts) {
      await until(async () => (await weft.attempt('doctor', '--accept-store')).code === 0, {
        what: 'the store is accepted',
      });
    }
  }

  /** For a while, containers come and go on random hosts; what is refused because the store is away is tried no more. */
  async #visit(forMs: number): Promise<void> {
    const random = this.#random;
    const endMs = monotonicMs() + forMs;
    while (monotonicMs() < endMs) {
      const { weft } = random.pick(this.#world.hosts);
      const namespace = await this.#lab.namespace(`v${this.#visitors++}`);
      const name = `visitor-${this.#visitors}`;
      const attached = await weft.client.attach({ name, network: overlay.network, netns: namespace.name }).then(
        () => true,
        () => false,
      );
      await delay(random.int(200));
      if (random.chance(0.5)) await this.#lab.removeNamespace(namespace);
      else if (attached && random.chance(0.7)) await weft.client.detach(name).catch(() => {});
    }
  }

  #draw(): Disturbance {
    const random = this.#random;
    const { hosts, stores, etcd } = this.#world;
    const { members } = etcd;
    const [a, b] = this.#twoOf(hosts);
    const nobody: Disturbance['between'] = [];
    const nothing = async (): Promise<void> => {};
    const all: readonly (readonly [Trouble, () => Disturbance])[] = [
      [
        'etcd',
        () => {
          const member = random.pick(members);
          const end = async (): Promise<void> => {
            if (!member.isRunning) await member.start({ wait: false });
          };
          return {
            what: `etcd ${member.name} is killed`,
            to: member.name,
            between: nobody,
            begin: () => member.kill(),
            end,
          };
        },
      ],
      [
        'etcd',
        () => ({
          what: 'all of etcd is killed',
          between: nobody,
          begin: () => etcd.kill(),
          end: () => etcd.start(),
        }),
      ],
      [
        'etcd',
        () => {
          const member = random.pick(members);
          return {
            what: `etcd ${member.name} hangs`,
            to: member.name,
            between: nobody,
            begin: async () => member.pause(),
            end: async () => member.resume(),
          };
        },
      ],
      [
        'daemon',
        () => ({
          what: `the daemon of ${a.name} is killed`,
          to: a.name,
          between: pairsOf(a, hosts),
          begin: async () => void (await a.weft.kill()),
          end: () => a.weft.start(),
        }),
      ],
      [
        'daemon',
        () => ({
          what: `the daemon of ${a.name} is followed by another`,
          to: a.name,
          between: nobody,
          begin: () => a.weft.takeOver(),
          end: nothing,
        }),
      ],
      [
        'network',
        () => ({
          what: `${a.name} is cut off from etcd`,
          between: nobody,
          begin: async () => {
            for (const store of stores) await this.#world.cut(a, store);
          },
          end: () => this.#world.heal(),
        }),
      ],
      [
        'network',
        () => ({
          what: `${a.name} and ${b.name} are cut off from each other`,
          between: [[a.name, b.name]],
          begin: () => this.#world.cut(a, b),
          end: () => this.#world.heal(),
        }),
      ],
      [
        'network',
        () => ({
          what: `${a.name} does not hear ${b.name}`,
          between: [[a.name, b.name]],
          begin: () => this.#world.cutOneWay(a, b),
          end: () => this.#world.heal(),
        }),
      ],
      [
        'store',
        () => ({
          what: 'etcd forgets its history',
          between: nobody,
          begin: async () => void (await etcd.compact().catch(() => 0)),
          end: nothing,
        }),
      ],
      [
        'store',
        () => ({
          what: this.#snapshot === undefined ? 'a snapshot is taken' : 'etcd is put back to the snapshot',
          between: nobody,
          begin: async () => {
            // Nobody answers if all of etcd is away at the same time.
            if (this.#snapshot === undefined) this.#snapshot = await etcd.snapshot().catch(() => undefined);
            else await etcd.restore(this.#snapshot, { sameId: random.chance(0.5) });
          },
          end: nothing,
        }),
      ],
      [
        'store',
        () => ({
          what: 'etcd begins with nothing',
          between: nobody,
          begin: () => etcd.wipe({ sameId: random.chance(0.5) }),
          end: nothing,
        }),
      ],
    ];
    return random.pick(all.filter(([trouble]) => this.#only.includes(trouble)))[1]();
  }

  #twoOf(hosts: readonly LabHost[]): [LabHost, LabHost] {
    const a = this.#random.pick(hosts);
    return [a, this.#random.pick(hosts.filter((host) => host !== a))];
  }
}

/** A host with each other, and with itself. */
function pairsOf(host: Machine, hosts: readonly Machine[]): [string, string][] {
  return hosts.map(({ name }) => [host.name, name]);
}

/** What all hosts must say of the endpoints, whoever has them. */
function known(endpoints: readonly EndpointReport[]): string[] {
  return endpoints.map(({ name, host, addresses }) => `${name} ${host} ${addresses.join(' ')}`);
}
