/**
 *   ctr run --cni ─► plugin ─► weft ─┬─ web, db …     containers of containerd
 *                                    └─ shop          a namespace by `weft attach`
 *
 * containerd with weft's CNI plugin, by docs/cni.md: containers talk, keep talking over a restart of weft, and are named. Many are
 * started at once. Whether they end by themselves or are killed, nothing is left.
 */
import t from 'tap';
import { Ctr } from '../support/ctr.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { ping } from '../support/traffic.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const MANY = 20;

await t.test('containers of containerd', async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const weft = await Weft.up(lab, host, 'host', { datapath: 'native' });
  await weft.createNetwork('blue --subnet 10.44.0.0/24');
  const shop = await lab.namespace('shop');
  await weft.attach(shop, { network: 'blue', arguments: ['--ip', '10.44.0.200'] });
  const ctr = await Ctr.up(lab, weft, 'blue');
  const start = (name: string) => ctr.run('run', '--detach', ...ctr.container(name, '/bin/sleep', '100000'));
  let count = 0;
  const inside = (name: string, ...words: readonly string[]) =>
    ctr.run('tasks', 'exec', '--exec-id', `e${++count}`, name, ...words);
  const endpoints = async () => (await weft.client.endpoints()).filter(({ name }) => name !== 'shop');
  const isLeft = async (...names: readonly string[]): Promise<void> => {
    await until(async () => (await endpoints()).length === names.length, {
      what: `${names.length} endpoints are left`,
    });
  };

  await start('web');
  await start('db');
  const [db, web] = (await endpoints()).sort((one, other) => one.name.localeCompare(other.name));
  t.match([web, db], [{ name: 'cni-default-web' }, { name: 'cni-default-db' }]);
  await inside('web', '/bin/ping', '-c', '1', '-W', '10', db!.addresses[0]!);
  await ping(shop, web!.addresses[0]!);
  t.match(await inside('web', '/bin/ip', 'route'), /default via 10\.44\.0\.1 dev eth0/);
  t.match(await inside('db', '/bin/ip', 'link', 'show', 'eth0'), new RegExp(db!.mac));

  await weft.kill();
  await weft.start();
  await inside('web', '/bin/ping', '-c', '1', '-W', '10', db!.addresses[0]!);

  const once = ctr.container('once', '/bin/ping', '-c', '1', '-W', '10', web!.addresses[0]!);
  t.match(await ctr.run('run', '--rm', ...once), /1 packets received/);
  t.equal((await endpoints()).length, 2, 'one that has ended is gone: containerd says so');

  const end = async (name: string): Promise<void> => {
    await ctr.run('tasks', 'kill', '--signal', 'SIGKILL', name);
    await ctr.run('containers', 'delete', name).catch(() => {});
  };
  await end('db');
  await isLeft('web');

  const names = Array.from({ length: MANY }, (_, i) => `n${i}`);
  await Promise.all(names.map(start));
  const many = await endpoints();
  t.equal(many.length, MANY + 1);
  t.equal(new Set(many.flatMap(({ addresses }) => addresses)).size, MANY + 1);
  await Promise.all([...names, 'web'].map(end));
  await isLeft();

  await weft.stop();
  const { code, stderr } = await ctr.attempt('run', '--rm', ...ctr.container('late', '/bin/echo'));
  t.not(code, 0);
  t.match(stderr, /weft does not answer at/);
});
