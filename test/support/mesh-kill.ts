/**
 * Daemons are killed and taken over and etcd goes away, while connections through a service exchange data; and a daemon is
 * killed in the moment in which a backend leaves the service.
 */
import type { Test } from 'tap';
import type { ConnectionReport } from '../../src/model/report.ts';
import type { Lab } from './lab.ts';
import { goesOn, Mesh, VIP6, type HoldReport, type MeshBackend, type Talker } from './mesh.ts';
import { until } from './process.ts';
import { Random } from './random.ts';
import type { DatapathKind, Weft } from './weft.ts';

const PAUSE_MS = 20;
const IDLE_MS = 3_600_000;
/** How long after the change is asked for the daemon is killed, at most: by then it is made. */
const MOST_UNTIL_KILLED_MS = 80;

export interface KillOptions {
  readonly datapath: DatapathKind;
  readonly hosts: 1 | 2;
  /** Of each family. */
  readonly connections: number;
  /** How often a daemon is killed while a backend leaves. */
  readonly removals: number;
  readonly seed: number;
}

export async function killsAndOutages(t: Test, lab: Lab, options: KillOptions): Promise<void> {
  const { datapath, hosts, connections, removals, seed } = options;
  const mesh = await Mesh.open(lab, { datapath, hosts });
  const staying = await mesh.addBackend('one', 0);
  const leaving = await mesh.addBackend('two', hosts - 1);
  const held = [
    await mesh.hold(connections, PAUSE_MS),
    await mesh.hold(connections, PAUSE_MS, VIP6),
    ...(await mesh.holdEntered(connections, PAUSE_MS)),
  ];
  const before = await pinsOf(mesh);
  t.equal(before.size, 2 * connections, 'each connection has a backend');
  t.same(new Set(before.values()), new Set(['default/one', 'default/two']));
  const allGoOn = async (when: string): Promise<void> => {
    const seen = await Promise.all(held.map((each) => goesOn(each)));
    t.same(seen.flatMap(brokenOf), [], `${when}: no connection breaks`);
    t.same(await pinsOf(mesh), before, `${when}: each has the backend that it had`);
  };
  await allGoOn('before');
  for (const weft of mesh.wefts) {
    const name = weft.host.name.split('-').at(-1)!;
    await restart(weft);
    await allGoOn(`kill -9 on host ${name}`);
    await weft.takeOver();
    await allGoOn(`takeover on host ${name}`);
  }
  if (mesh.cluster) {
    await storeAway(t, mesh, allGoOn);
    for (const when of ['has just died', 'is known to be down'] as const) {
      const idle = await holdIdle(mesh, connections);
      await leaveWhileDown(mesh, leaving, when);
      await gone(t, `its host ${when}`, leaving, [...held, ...idle]);
      for (const each of idle) await each.kill();
      await mesh.label(leaving, 'app=web');
    }
  }

  t.comment(`seed ${seed}`);
  const random = new Random(seed);
  let stored = 0;
  for (let time = 1; time <= removals; time++) {
    // Of two hosts, the one of the client or the one of the backend.
    const killed = mesh.wefts[time % mesh.wefts.length]!;
    const idle = await holdIdle(mesh, connections);
    const waiting = await Promise.all(idle.map((each) => each.report()));
    if (waiting.every(({ two }) => !two)) t.comment('none of them goes to the backend that leaves');
    if (await leaveAndKill(leaving, killed, random.int(MOST_UNTIL_KILLED_MS))) stored++;
    await gone(t, `removal ${time}`, leaving, [...held, ...idle]);
    const seen = await Promise.all([...held.map((each) => goesOn(each)), ...idle.map((each) => each.report())]);
    for (const { two, ...others } of seen) {
      t.equal(two?.open ?? 0, 0);
      t.same(brokenOf(others), [], `removal ${time}: those to the other one go on`);
    }
    for (const each of idle) await each.kill();
    await mesh.label(leaving, 'app=web');
  }
  t.comment(`${stored} of ${removals} changes had been stored when the daemon was killed`);
  t.equal((await staying.server.report()).resets.length, 0, 'the one that stays has seen no reset');
}

/** Connections that wait to be told something, and learn nothing by what they send. */
async function holdIdle(mesh: Mesh, connections: number): Promise<Talker<HoldReport>[]> {
  return [await mesh.hold(connections, IDLE_MS), ...(await mesh.holdEntered(connections, IDLE_MS))];
}

/** A backend leaves its service while the daemon of its host does not run, which starts again then. */
async function leaveWhileDown(
  mesh: Mesh,
  { name, weft }: MeshBackend,
  when: 'has just died' | 'is known to be down',
): Promise<void> {
  const [a] = mesh.wefts;
  const host = weft.host.name.split('-').at(-1)!;
  await weft.kill();
  if (when === 'is known to be down') {
    const stateOf = async (): Promise<string | undefined> =>
      (await a.client.hosts()).find((one) => one.name === host)?.state;
    await until(async () => (await stateOf()) === 'down', { what: `host ${host} is known to be down` });
  }
  await a.client.label('Endpoint', name, { app: 'spare' });
  await weft.start();
}

/** etcd is away: connections go on, also over a restart, and new ones get a backend. */
async function storeAway(t: Test, mesh: Mesh, allGoOn: (when: string) => Promise<void>): Promise<void> {
  const { etcd } = mesh.cluster!;
  const isReachable = async (weft: Weft): Promise<boolean> => (await weft.status()).sharedStore!.reachable;
  await etcd.kill();
  for (const weft of mesh.wefts)
    await until(async () => !(await isReachable(weft)), { what: 'etcd is known to be away' });
  await allGoOn('etcd is away');
  for (const weft of mesh.wefts) await restart(weft);
  await allGoOn('kill -9 while etcd is away');
  const load = await mesh.load(50);
  await until(async () => Object.keys((await load.report()).answered).length === 2, {
    what: 'new ones have a backend',
  });
  t.same((await load.finish()).failed, []);
  await mesh.wefts[0].takeOver();
  await allGoOn('takeover while etcd is away');
  await etcd.start();
  for (const weft of mesh.wefts) await until(async () => isReachable(weft), { what: 'etcd is known to be back' });
  await allGoOn('etcd is back');
}

async function restart(weft: Weft): Promise<void> {
  await weft.kill();
  await weft.start();
}

/**
 * Takes a backend out of the service by its label, and kills a daemon after so many milliseconds.
 * @returns whether the change had been stored by then
 */
async function leaveAndKill({ name, weft }: MeshBackend, killed: Weft, afterMs: number): Promise<boolean> {
  const labels = { app: 'spare' };
  const change = weft.client.label('Endpoint', name, labels).then(
    () => true,
    () => false,
  );
  await new Promise((resolve) => setTimeout(resolve, afterMs));
  await killed.kill();
  const isTold = await change;
  await killed.start();
  const isStored = async (): Promise<boolean> =>
    (await weft.client.get('Endpoint', name))[0]!.metadata.labels?.['app'] === 'spare';
  const wasStored = await isStored();
  if (isTold && !wasStored) throw new Error('a change that was told is lost');
  if (!wasStored) await weft.client.label('Endpoint', name, labels);
  return wasStored;
}

/** Waits until no end of a connection to the backend knows it any more. */
async function gone(
  t: Test,
  when: string,
  { name, server }: MeshBackend,
  held: readonly Talker<HoldReport>[],
): Promise<void> {
  await until(
    async () => {
      const clients = await Promise.all(held.map((each) => each.report()));
      const left = clients.map((seen) => seen[name]?.open ?? 0);
      const { open } = await server.report();
      if (open === 0 && left.every((count) => count === 0)) return true;
      throw new Error(`open at the clients: ${left.join(', ')}; at the backend: ${open}`);
    },
    { what: `no connection to ${name} lives on` },
  );
  t.pass(`${when}: no connection to ${name} lives on, at either end`);
}

function brokenOf(seen: HoldReport): string[] {
  return Object.entries(seen).flatMap(([name, { broken }]) => broken.map((why) => `${name}: ${why}`));
}

/** The backend of each open connection to the service. */
async function pinsOf(mesh: Mesh): Promise<Map<string, string | null>> {
  const all = (await mesh.wefts[0].json('connections')) as ConnectionReport[];
  const through = all.filter(({ direction, state }) => direction === 'service' && state === 'established');
  return new Map(through.map(({ source, to }) => [source, to]));
}
