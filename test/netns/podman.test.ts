/**
 *   podman ─► plugin ─► weft ─┬─ web      podman ─► plugin ─► weft ─┬─ db
 *                             └─ …                                  └─ …       two hosts that share etcd
 *
 * podman with weft's CNI plugin, by docs/cni.md: containers of two hosts talk by address and by name, and have what was asked for.
 * Many are started at once, killed and removed: nothing is left.
 */
import t from 'tap';
import { etcdCluster } from '../support/cluster.ts';
import { openLab } from '../support/lab.ts';
import { Podman } from '../support/podman.ts';
import { until } from '../support/process.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(900_000);

await t.test('containers of podman on two hosts', async (t) => {
  const lab = openLab(t);
  const cluster = await etcdCluster(lab, 2);
  const [first, second] = cluster.hosts;
  const weft = await Weft.up(lab, first!.namespace, first!.name, cluster.options(first!, 'native'));
  const other = await Weft.up(lab, second!.namespace, second!.name, cluster.options(second!, 'native'));
  await weft.createNetwork('blue --subnet 10.44.0.0/24 --outside');
  await until(async () => (await other.client.networks()).length === 1, { what: 'the other host knows the network' });
  const [here, there] = [await Podman.up(lab, weft, 'blue'), await Podman.up(lab, other, 'blue')];
  const start = (podman: Podman, name: string, ...more: readonly string[]) =>
    podman.run('run', '--detach', '--name', name, ...more);
  const sleep = ['busybox', '/bin/sleep', '100000'];
  const serve = ['busybox', '/bin/sh', '-c', 'echo hello > /tmp/index.html; exec /bin/httpd -f -p 80 -h /tmp'];

  await start(
    here,
    'web',
    ...['--network', 'blue', '--ip', '10.44.0.77', '--mac-address', '02:00:00:00:00:77'],
    ...['--network-alias', 'www', '-p', '18080:80', ...serve],
  );
  await start(there, 'db', '--network', 'blue', ...sleep);
  const fromDb = (...words: readonly string[]) => there.attempt('exec', 'db', ...words);
  for (const host of ['10.44.0.77', 'web', 'www']) {
    await until(async () => (await fromDb('/bin/wget', '-q', '-O', '-', `http://${host}/`)).stdout === 'hello\n', {
      what: `web answers as ${host}`,
    });
  }
  t.match(await here.run('exec', 'web', '/bin/ip', 'link', 'show', 'eth0'), /02:00:00:00:00:77/);
  t.match(await here.run('exec', 'web', '/bin/ping', '-c', '1', '-W', '10', 'db'), /1 packets received/);
  t.match(
    (await weft.client.endpoints()).find(({ name }) => name === 'web'),
    { addresses: ['10.44.0.77'], publish: [{ hostPort: 18080, port: 80, protocol: 'TCP' }] },
  );
  const published = () =>
    second!.namespace.attempt(['busybox', 'wget', '-q', '-O', '-', `http://${first!.underlay}:18080/`]);
  await until(async () => (await published()).stdout === 'hello\n', { what: 'the published port answers' });
  const atLoopback = () => first!.namespace.attempt(['busybox', 'wget', '-q', '-O', '-', 'http://127.0.0.1:18080/']);
  await until(async () => (await atLoopback()).stdout === 'hello\n', { what: 'it answers its host at 127.0.0.1' });
  for (const [asked, why] of [
    [['--ip', '10.44.0.77'], /10\.44\.0\.77 is taken by endpoint "web"/],
    [['-p', '127.0.0.1:18081:80'], /hostIP.*127\.0\.0\.1/],
  ] as const) {
    const { code, stderr } = await there.attempt('run', '--rm', '--network', 'blue', ...asked, 'busybox', '/bin/echo');
    t.not(code, 0);
    t.match(stderr, why);
  }

  await t.test('connect, disconnect, reload', async (t) => {
    await here.run('network', 'disconnect', 'blue', 'web');
    t.equal(
      (await weft.client.endpoints()).some(({ name }) => name === 'web'),
      false,
    );
    await here.run('network', 'connect', '--ip', '10.44.0.78', 'blue', 'web');
    await until(async () => (await fromDb('/bin/ping', '-c', '1', '-W', '2', '10.44.0.78')).code === 0, {
      what: 'web answers at its new address',
    });
    await here.run('network', 'reload', 'web');
    await until(async () => (await fromDb('/bin/ping', '-c', '1', '-W', '2', 'web')).code === 0, {
      what: 'web answers after a reload',
    });
  });

  await t.test('many at once, and a runtime that is not asked', async (t) => {
    const names = Array.from({ length: 50 }, (_, i) => `n${i}`);
    const results = await Promise.all(
      names.map((name) => here.attempt('run', '--detach', '--name', name, '--network', 'blue', ...sleep)),
    );
    t.same(
      results.filter(({ code }) => code !== 0).map(({ stderr }) => stderr),
      [],
    );
    const endpoints = (await weft.client.endpoints()).filter(({ name }) => /^n\d+$/.test(name));
    t.equal(endpoints.length, 50);
    t.equal(new Set(endpoints.flatMap(({ addresses }) => addresses)).size, 50);
    await here.run('kill', ...names.slice(0, 25));
    await here.run('rm', '--force', '--time', '0', ...names);
  });

  await here.run('rm', '--force', '--time', '0', 'web');
  await there.run('rm', '--force', '--time', '0', 'db');
  for (const one of [weft, other]) {
    await until(async () => (await one.client.endpoints()).length === 0, { what: 'all endpoints are gone' });
  }
});
