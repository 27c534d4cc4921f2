/** Two hosts that share etcd, which goes away for a while. */
import type { Test } from 'tap';
import { etcdCluster } from './cluster.ts';
import { exchanged } from './exchanges.ts';
import { openLab, type Lab, type Namespace } from './lab.ts';
import { until } from './process.ts';
import { askOverUdp, ping, python, stream } from './traffic.ts';
import type { DatapathKind, Weft } from './weft.ts';

const PORT = 7100;
/** TCP connections from before that exchange data without a pause. */
const ESTABLISHED = 8;

/** Sends a probe 20 times a second until the returned function is called, which returns how many were lost. */
export function probing(from: Namespace, to: string): () => Promise<number> {
  const probes = from.start(['ping', '-n', '-i', '0.05', '-W', '5', to]);
  return async () => {
    // SIGINT makes it wait for nothing and report.
    probes.signal('SIGINT');
    await probes.exited;
    const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(probes.stdout) ?? [];
    // The last one may be under way.
    return Math.max(0, Number(sent) - Number(received) - 1);
  };
}

/** A network of the store, `web` on host a and `db` on host b. */
export async function twoHostsOnEtcd(lab: Lab, datapath: DatapathKind = 'native') {
  const cluster = await etcdCluster(lab, 2);
  const [a, b] = (await cluster.up(datapath)) as [Weft, Weft];
  await a.createNetwork('blue --subnet 10.44.0.0/24');
  const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
  await a.attach(web, { name: 'web', network: 'blue' });
  const { addresses } = await b.attach(db, { name: 'db', network: 'blue', arguments: ['--wait'] });
  const dbIp = addresses[0]!;
  await ping(web, dbIp);
  const shared = async (weft: Weft) => (await weft.client.status()).sharedStore!;
  const held = async (weft: Weft) => (await shared(weft)).held.map(({ name, change }) => `${name} ${change}`);
  return { lab, etcd: cluster.etcd, a, b, web, db, dbIp, shared, held };
}

/**
 * etcd is down for `seconds`: no frame is lost between endpoints that know each other, containers come and go on their own
 * host, a daemon starts from its copy, and all is reconciled when etcd is back.
 */
export async function storeOutage(
  t: Test,
  { seconds, datapath }: { readonly seconds: number; readonly datapath?: DatapathKind },
): Promise<void> {
  const { lab, etcd, a, b, web, db, dbIp, shared } = await twoHostsOnEtcd(openLab(t), datapath);
  const [app, more] = [await lab.namespace('app'), await lab.namespace('more')];
  await a.attach(more, { name: 'gone', network: 'blue' });
  await db.start(python('exchange.py', 'serve', PORT)).says('ready');
  const established = web.start(python('exchange.py', 'ask', dbIp, PORT, ESTABLISHED));
  await established.says('ready');
  const lost = probing(web, dbIp);
  const beganMs = performance.now();
  await etcd.kill();
  await until(async () => !(await shared(a)).reachable && !(await shared(b)).reachable, { what: 'that to be known' });
  await stream(web, db, dbIp, { bytes: 10_000_000 });

  const attached = await a.attempt('attach', 'app', '--network', 'blue', '--netns', app.name, '-o', 'json');
  t.equal(attached.code, 0);
  t.match(attached.stderr, /^note: endpoint "app": the store does not have it yet: other hosts do not know of it\n$/);
  const [appIp = ''] = (JSON.parse(attached.stdout) as { addresses: string[] }).addresses;
  await ping(web, appIp);
  t.match(await a.run('detach', 'gone'), /^endpoint\/gone detached, pending: the store has it still: other hosts/);
  t.match(await a.run('label', 'ep/web', 'v=1'), /^endpoint\/web configured, pending: the store does not have it yet/);
  t.same(await more.links(), []);
  t.same((await shared(a)).pending.toSorted(), ['endpoint "app"', 'endpoint "gone" (deleted)', 'endpoint "web"']);
  t.match(
    await a.run('status'),
    /\nPending: +other hosts do not know of endpoint "app", endpoint "gone" \(deleted\), endpoint "web" yet\n/,
  );
  const refused = await a.attempt('network', 'create', 'red', '--subnet', '10.45.0.0/24');
  t.equal(refused.code, 1);
  t.match(refused.stderr, /^weft: the store cannot be reached \(.+, since \S+Z\): .+ cannot be changed meanwhile\n$/);
  t.match((await a.attempt('doctor')).stdout, /store +failed +cannot be reached/);
  t.match(await b.attempt('down', '--purge'), {
    code: 1,
    stderr: /^weft: the store cannot be reached \(.+\): what it has of this host cannot be removed, so nothing was/,
  });
  await a.attempt('attach', 'more', '--network', 'blue', '--netns', more.name);
  let rounds = 0;
  while (performance.now() - beganMs < seconds * 1000) {
    await askOverUdp(web, db, dbIp);
    await stream(web, db, dbIp, { bytes: 10_000_000 });
    rounds++;
  }
  t.comment(`${rounds} new connections of TCP and of UDP meanwhile`);
  t.equal(await lost(), 0, 'no frame is lost');
  t.match(await exchanged(established), { broken: [] }, 'connections from before go on');

  await a.kill();
  const startedMs = performance.now();
  await a.start();
  t.comment(`forwards ${Math.round(performance.now() - startedMs)} ms after its start`);
  for (const [from, to] of [
    [web, dbIp],
    [web, appIp],
    [db, (await a.client.endpoints()).find(({ name }) => name === 'web')!.addresses[0]!],
  ] as const) {
    await ping(from, to);
  }
  t.match(a.log(), /the copy of the cluster’s state is put into force/);
  t.same((await shared(a)).pending.toSorted(), [
    'endpoint "app"',
    'endpoint "gone" (deleted)',
    'endpoint "more"',
    'endpoint "web"',
  ]);

  await etcd.start();
  await until(async () => (await shared(a)).pending.length === 0, { what: 'its own records to be stored' });
  await until(async () => (await b.client.endpoints()).some(({ name }) => name === 'more'), { what: 'b to know' });
  await ping(db, appIp);
  t.same((await b.client.endpoints()).map(({ name }) => name).toSorted(), ['app', 'db', 'more', 'web']);
  t.same((await shared(a)).lost, []);
  for (const weft of [a, b]) {
    const behind = async () => (await weft.status()).inForce!.hosts.filter(({ state }) => state !== 'in force');
    await until(async () => (await behind()).length === 0, { what: 'all hosts to say that they have it in force' });
  }
  await a.run('detach', 'more');
}
