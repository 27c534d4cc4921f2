/**
 *   ┌ a ─────────────┐   ┌ b ─────────────┐
 *   │ web, app       │   │ db, more       │
 *   └─ .1 ───────────┘   └─ .2 ───────────┘
 *         └── 192.0.2.0/24, one bridge ┴── etcd (.100): away, emptied, restored
 *
 * What is in force does not depend on the store: no frame is lost between endpoints that know each other, containers come
 * and go on their own host, a daemon starts from its copy, and what a store has lost is held until somebody decides.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { etcdAddress, etcdCluster } from '../support/cluster.ts';
import { openLab } from '../support/lab.ts';
import { monotonicMs, until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { probing, storeOutage, twoHostsOnEtcd } from '../support/store-outage.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

await t.test('etcd is down for 30 seconds', { skip: needsRoot }, (t) => storeOutage(t, { seconds: 30 }));

await t.test('etcd loses everything, and is restored to what it was', { skip: needsRoot }, async (t) => {
  const { lab, etcd, a, b, web, dbIp, shared, held } = await twoHostsOnEtcd(openLab(t));
  const snapshot = await etcd.snapshot();
  await a.run('network', 'create', 'late', '--subnet', '10.46.0.0/24');
  await until(async () => (await b.client.networks()).length === 2, { what: 'late' });
  const lost = probing(web, dbIp);
  const names = async (weft: Weft) => (await weft.client.networks()).map(({ name }) => name).toSorted();

  await etcd.restore(snapshot, { sameId: true });
  for (const weft of [a, b]) {
    await until(async () => (await held(weft)).includes('network "late" deleted'), { what: 'the deletion to be held' });
    t.same(await names(weft), ['blue', 'late']);
  }
  const doctor = await a.attempt('doctor');
  t.equal(doctor.code, 1);
  t.match(doctor.stdout, /held +failed +the store is not what it was .*network "late" \(deleted\)/);
  t.match(await a.run('status'), /\nHeld: +.*network "late" \(deleted\)/);
  const labelled = await a.attempt('label', 'network', 'late', 'a=b');
  t.match(labelled.stderr, /network "late" stays as it was, since the store has lost it .*--accept-store/);
  for (const weft of [a, b]) {
    t.match(await weft.run('doctor', '--accept-store'), /network "late" deleted\n/);
    t.equal(await weft.run('doctor', '--accept-store'), 'Nothing is held: the store is in force.\n');
    t.same(await names(weft), ['blue']);
  }

  await etcd.wipe();
  for (const weft of [a, b]) {
    await until(async () => (await held(weft)).includes('network "blue" deleted'), { what: 'all to be held' });
    t.same(await names(weft), ['blue']);
    await until(async () => !(await held(weft)).some((text) => text.includes('endpoint')), {
      what: 'the hosts to write their own records again',
    });
    t.same((await weft.client.endpoints()).map(({ name }) => name).toSorted(), ['db', 'web']);
  }
  // Whoever wants to keep it applies it again.
  const blue = await a.run('get', 'network', 'blue', '-o', 'yaml');
  const namespace = await a.run('get', 'namespace', 'default', '-o', 'yaml');
  const file = join(lab.directory, 'again.yaml');
  writeFileSync(file, `${namespace}---\n${blue}`);
  t.match(await a.run('apply', '-f', file), /network\/blue configured/);
  for (const weft of [a, b]) {
    await until(async () => !(await held(weft)).includes('network "blue" deleted'), { what: 'blue to be stored' });
    await weft.run('doctor', '--accept-store');
    t.same((await shared(weft)).held, []);
    t.same(await names(weft), ['blue']);
  }
  t.equal(await lost(), 0, 'no frame is lost in all that');
  const waited = await a.attempt('label', 'network', 'blue', 'kept=yes');
  t.equal(waited.code, 0, waited.stderr);
  t.match((await a.attempt('apply', '-f', file, '--wait=30s')).stdout, /in force on a, b\n$/);
  await b.run('detach', 'db');
  await until(async () => (await a.client.endpoints()).length === 1, { what: 'life to go on' });
});

await t.test('etcd is away when a host starts for the first time ever', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const cluster = await etcdCluster(lab, 1);
  const { etcd, hosts } = cluster;
  const host = hosts[0]!;
  await etcd.kill();
  const weft = Weft.of(lab, host.namespace, 'a', cluster.options(host, 'native'));
  weft.launch();
  const status = await until(
    async () => {
      const attempted = await weft.attempt('status');
      return attempted.stdout.includes('cannot be reached') ? attempted : undefined;
    },
    { what: 'it to answer' },
  );
  t.equal(status.code, 1);
  t.match(
    status.stdout,
    /Forwarding: +no\n[^]*Store: +etcd:.*, cannot be reached: (?!etcd cannot)[^]*In force: +nothing of the store yet/,
    'which is said once',
  );
  const refused = await weft.attempt('network', 'create', 'blue', '--subnet', '10.44.0.0/24');
  t.equal(refused.code, 1);
  const away = `the store cannot be reached \\(${etcdAddress}:.*\\): weft goes on when it can be used`;
  t.match(refused.stderr, new RegExp(`^weft: ${away}\\n$`));
  for (const command of [
    'get host',
    'get network',
    'network ls',
    'endpoints',
    'services',
    'hosts',
    'describe host a',
  ]) {
    const asked = await weft.attempt(...command.split(' '));
    t.equal(asked.code, 1, command);
    t.match(asked.stderr, new RegExp(`^weft: this host knows nothing of the cluster yet: ${away}\\n$`), command);
    t.equal(asked.stdout, '', command);
  }
  const { stdout: checks } = await weft.attempt('doctor');
  t.match(
    checks,
    /^store +failed +cannot be reached \(.*\): this host knows nothing of the cluster yet, and forwards/m,
  );
  t.match(checks, /^own sockets +failed +they are opened when the cluster is known: the store cannot be reached \(/m);
  await etcd.start();
  await until(async () => (await weft.client.status()).forwarding, { what: 'it to forward' });
  await weft.run('network', 'create', 'blue', '--subnet', '10.44.0.0/24');
});

await t.test('etcd is silent: a daemon that is stopped ends', { skip: needsRoot }, async (t) => {
  for (const isKnown of [false, true]) {
    const lab = openLab(t);
    const cluster = await etcdCluster(lab, 1);
    const [weft] = (await cluster.up('native')) as [Weft];
    await weft.createNetwork('blue --subnet 10.44.0.0/24');
    await weft.attach(await lab.namespace('web'), { name: 'web', network: 'blue' });
    await cluster.cut(cluster.hosts[0]!, [etcdAddress]);
    const isReachable = async (): Promise<boolean> => (await weft.client.status()).sharedStore!.reachable;
    if (isKnown) await until(async () => !(await isReachable()), { what: 'that to be known' });
    const beganMs = monotonicMs();
    await weft.stop();
    t.comment(`${isKnown ? 'known' : 'not known'}: ended after ${(monotonicMs() - beganMs).toFixed(0)} ms`);
  }
});
