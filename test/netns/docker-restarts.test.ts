/**
 *   dockerd ─► weft ─── web (IPv4 and IPv6, published), db         weft ─── shop         two hosts that share etcd
 *
 * Docker where hosts share a store, and what restarts there: either of the two is killed, containers are restarted, and the host
 * starts with weft so late that Docker has given it up. Afterwards all is reachable as it was, and nothing is left.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { etcdCluster } from '../support/cluster.ts';
import { Dockerd } from '../support/dockerd.ts';
import { upForDocker } from '../support/docker.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(900_000);

await t.test('containers of Docker on a network of two hosts', async (t) => {
  const lab = openLab(t);
  const cluster = await etcdCluster(lab, 2);
  const [first, second] = cluster.hosts;
  const { weft, plugins } = await upForDocker(lab, first!.namespace, cluster.options(first!, 'native'));
  const other = await Weft.up(lab, second!.namespace, second!.name, cluster.options(second!, 'native'));
  await weft.createNetwork('blue --subnet 10.44.0.0/24 --subnet fd44::/64 --outside');
  await until(async () => (await other.client.networks()).length === 1, { what: 'the other host knows the network' });
  const shop = await lab.namespace('shop');
  await other.attach(shop, { network: 'blue', arguments: ['--ip', '10.44.0.200', '--ip', 'fd44::200'] });
  const docker = await Dockerd.up(lab, first!.namespace, plugins);
  await docker.run(
    ...['network', 'create', '-d', 'weft', '--ipam-driver', 'weft', '--ipam-opt', 'network=blue', '-o', 'network=blue'],
    ...['--subnet', '10.44.0.0/24', '--ipv6', '--subnet', 'fd44::/64', 'blue'],
  );
  const start = (name: string, ...more: readonly string[]) =>
    docker.run('run', '--detach', '--restart', 'always', '--init=false', '--name', name, '--network', 'blue', ...more);
  const serve = ['busybox', '/bin/sh', '-c', 'echo hello > /tmp/index.html; exec /bin/httpd -f -p 80 -h /tmp'];
  await start('web', '--ip', '10.44.0.10', '--ip6', 'fd44::10', '-p', '18080:80', ...serve);
  await start('db', 'busybox', '/bin/sleep', '100000');

  const get = ['busybox', 'wget', '-q', '-O', '-'];
  const ways: Readonly<Record<string, () => Promise<boolean>>> = {
    'web answers': async () => (await shop.attempt([...get, 'http://10.44.0.10/'])).stdout === 'hello\n',
    'web answers by IPv6': async () => (await shop.attempt([...get, 'http://[fd44::10]/'])).stdout === 'hello\n',
    'db reaches the other host': async () =>
      (await docker.attempt('exec', 'db', '/bin/ping', '-c', '1', '-W', '2', '10.44.0.200')).code === 0,
    'the published port answers': async () =>
      (await second!.namespace.attempt([...get, `http://${first!.underlay}:18080/`])).stdout === 'hello\n',
  };
  const isAsBefore = async (when: string): Promise<void> => {
    for (const [what, isSo] of Object.entries(ways)) await until(isSo, { what: `${what}, ${when}` });
    const isFollowed = async (): Promise<boolean> =>
      (await weft.client.endpoints())
        .filter(({ host }) => host !== second!.name)
        .every(({ interface: ifname, problems = [] }) => ifname === 'eth0' && problems.length === 0);
    await until(isFollowed, { what: `nothing is wrong with any endpoint, ${when}` });
    const addresses = (await weft.client.endpoints()).map((one) => one.addresses);
    t.equal(addresses.length, 3, `no endpoint but those of the containers and of shop, ${when}`);
    t.ok(addresses.some((one) => one.join() === '10.44.0.10,fd44::10'));
  };
  await isAsBefore('at first');
  await weft.kill();
  await weft.start();
  await isAsBefore('when weft was killed');
  await docker.run('restart', '--time', '0', 'web', 'db');
  await isAsBefore('when both containers were restarted');
  await docker.kill();
  await docker.start();
  await isAsBefore('when dockerd was killed');

  await docker.crash();
  await weft.kill();
  rmSync(join(plugins, 'weft.sock'));
  const isStarted = docker.start();
  await until(() => docker.log.includes('plugin \\"weft\\" not found'), { what: 'Docker gives weft up' });
  await weft.start();
  await isStarted;
  await isAsBefore('when weft was late');

  await docker.run('rm', '--force', 'web', 'db');
  await docker.run('network', 'rm', 'blue');
  await until(async () => (await weft.client.endpoints()).length === 1, { what: 'all endpoints of Docker are gone' });
  t.same(
    (await first!.namespace.links()).filter((ifname) => ifname.startsWith('weft-')),
    [],
  );
});
