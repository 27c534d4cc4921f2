/**
 *   ┌ a ─────────┐   ┌ b ──────────────┐   ┌ c ───────────────┐
 *   │ web        │   │ db: 1 h ahead   │   │ app: 1 h behind  │
 *   └─ .1 ───────┘   └─ .2 ────────────┘   └─ .3 ─────────────┘
 *         └───── 192.0.2.0/24, one bridge ┴── etcd (.100)
 *
 * Hosts whose clocks are an hour apart: they are told of by name, and nothing else is different from hosts with right ones.
 */
import t from 'tap';
import { etcdCluster } from '../support/cluster.ts';
import { openLab } from '../support/lab.ts';
import { attempt, until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { withClock } from '../support/shifted-clock.ts';
import { ping } from '../support/traffic.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const HOUR_S = 3600;

await t.test('clocks that are an hour apart', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const cluster = await etcdCluster(lab, 3);
  const ahead = [0, HOUR_S, -HOUR_S];
  const hosts = await Promise.all(
    cluster.hosts.map((host, at) => {
      const within = ahead[at] === 0 ? {} : { within: withClock(lab, ahead[at]!) };
      return Weft.up(lab, host.namespace, host.name, { ...cluster.options(host, 'native'), ...within });
    }),
  );
  const [a, b, c] = hosts as [Weft, Weft, Weft];
  const hourOf = async (weft: Weft): Promise<number> =>
    Math.round((Date.parse((await weft.status()).startedAt) - Date.now()) / 1000 / HOUR_S);
  t.same(await Promise.all(hosts.map(hourOf)), [0, 1, -1], 'what daemons believe');
  const told = async (weft: Weft): Promise<string[]> => {
    const { stdout } = await attempt(weft.command(['doctor']));
    return [...stdout.matchAll(/the clock of host "(\w)" is (\d+) min (\w+)/g)].map(
      // To the hour: how old what was read is is not known.
      ([, who, minutes, which]) => `${who} ${Math.round(Number(minutes) / 60)} h ${which}`,
    );
  };

  await t.test('each host tells of the others by name', async (t) => {
    for (const [weft, expected] of [
      [a, ['b 1 h ahead', 'c 1 h behind']],
      [b, ['a 1 h behind', 'c 2 h behind']],
      [c, ['a 1 h ahead', 'b 2 h ahead']],
    ] as const) {
      await until(async () => (await told(weft)).length === 2, { what: 'it is told' });
      t.same(await told(weft), expected);
    }
  });

  const [web, db, app] = [await lab.namespace('web'), await lab.namespace('db'), await lab.namespace('app')];
  const containers = [web, db, app];
  await t.test('containers of all of them talk, and what is applied is in force everywhere', async (t) => {
    await b.createNetwork('blue --subnet 10.44.0.0/24');
    const reports = [];
    for (const [at, name] of ['web', 'db', 'app'].entries()) {
      const words = { name, network: 'blue', arguments: ['--wait'] };
      reports.push(await hosts[at]!.attach(containers[at]!, words));
    }
    const addresses = reports.map((report) => report.addresses[0]!);
    t.equal(new Set(addresses).size, 3);
    for (const from of containers) await Promise.all(addresses.map((to) => ping(from, to)));
    for (const weft of hosts) {
      await until(async () => (await weft.client.hosts()).every(({ state }) => state === 'up'), { what: 'all are up' });
      t.match((await weft.status()).registration, { state: 'registered' });
      t.same((await weft.status()).sharedStore?.lost, []);
    }
  });

  await t.test('an endpoint moves, a daemon is taken over, and one starts with a right clock', async (t) => {
    const moved = await c.attach(db, { name: 'db', network: 'blue', arguments: ['--move', '--wait'] });
    t.equal(moved.host, 'c');
    await ping(web, moved.addresses[0]!);
    await b.takeOver();
    await c.kill();
    await c.start();
    await ping(web, moved.addresses[0]!);
    await b.stop();
    const right = await Weft.up(lab, cluster.hosts[1]!.namespace, 'b', cluster.options(cluster.hosts[1]!, 'native'));
    await until(async () => (await told(a)).length === 1, { what: 'only one is told' });
    t.same(await told(a), ['c 1 h behind']);
    t.equal(await hourOf(right), 0);
  });
});
