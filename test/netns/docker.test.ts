/**
 *   dockerd, containerd ─► weft.sock ─► weft ─┬─ web, db, api      containers of Docker
 *                                             └─ shop              a namespace by `weft attach`
 *
 * Docker itself with weft's driver, by docs/docker.md: containers talk, have the addresses, MACs, ports and names that were asked
 * for, and are connected while they run. dockerd and weft are killed. In the end nothing is left: no address, interface or port.
 */
import t from 'tap';
import { Dockerd } from '../support/dockerd.ts';
import { upForDocker } from '../support/docker.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { outsideIps } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';

t.setTimeout(900_000);

/** So few that 32 of Docker's requests may be connected at a time. */
const DESCRIPTORS = ['prlimit', '--nofile=1024:1024'];

await t.test('containers of Docker', async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const client = await lab.namespace('client');
  await lab.cable(client, 'eth0', host, 'eth0');
  await client.ip(`address add ${outsideIps.client.ip4}/24 dev eth0`);
  await host.ip(`address add ${outsideIps.host.ip4}/24 dev eth0`);
  const { weft, plugins } = await upForDocker(lab, host, { datapath: 'native', within: DESCRIPTORS });
  await weft.createNetwork('blue --subnet 10.44.0.0/24 --outside');
  await weft.createNetwork('red --subnet 10.55.0.0/24');
  const docker = await Dockerd.up(lab, host, plugins);
  const create = (name: string, subnet: string) =>
    docker.run(
      ...['network', 'create', '-d', 'weft', '--ipam-driver', 'weft'],
      ...['--ipam-opt', `network=${name}`, '-o', `network=${name}`, '--subnet', subnet, name],
    );
  await create('blue', '10.44.0.0/24');
  await create('red', '10.55.0.0/24');
  const start = (name: string, ...more: readonly string[]) =>
    docker.run('run', '--detach', '--init=false', '--name', name, ...more, 'busybox', '/bin/sleep', '100000');
  const inside = (name: string, ...words: readonly string[]) => docker.run('exec', name, ...words);
  /** An interface that weft has found in its container is opened anew there. */
  const pingFrom = async (name: string, to: string) => {
    const isFound = async () =>
      (await weft.client.endpoints()).every((one) => one.state === 'attached' && !one.interface?.startsWith('weft-'));
    await until(isFound, { what: 'weft knows where all interfaces are' });
    return inside(name, '/bin/ping', '-c', '1', '-W', '10', to);
  };
  const inspect = (name: string, format: string) => docker.run('inspect', '--format', format, name);
  const addressOf = async (name: string, network: string) =>
    (await inspect(name, `{{ (index .NetworkSettings.Networks "${network}").IPAddress }}`)).trim();
  const carried = async () => (await host.links()).filter((ifname) => ifname.startsWith('weft-'));

  await t.test('talk, with what was asked for', async (t) => {
    await start('web', '--network', 'blue');
    await start(
      'db',
      ...['--ip', '10.44.0.77', '--mac-address', '02:00:00:00:00:77'],
      ...['--network', 'name=blue,driver-opt=weft.dev/name=db,driver-opt=weft.dev/labels=app=db'],
    );
    t.equal(await addressOf('db', 'blue'), '10.44.0.77');
    await pingFrom('web', '10.44.0.77');
    await pingFrom('db', await addressOf('web', 'blue'));
    t.match(await inside('db', '/bin/ip', 'link', 'show', 'eth0'), /02:00:00:00:00:77/);
    t.match(await inside('web', '/bin/ip', 'route'), /default via 10\.44\.0\.1 dev eth0/);
    const shop = await lab.namespace('shop');
    await weft.attach(shop, { network: 'blue' });
    await ping(shop, '10.44.0.77');
    t.match(
      (await weft.client.endpoints()).find(({ name }) => name === 'db'),
      { addresses: ['10.44.0.77'], mac: '02:00:00:00:00:77', labels: { app: 'db' } },
    );
    await until(async () => (await carried()).length === 0, { what: 'no interface is left with the host' });
    t.match(await docker.attempt('run', '--rm', '--network', 'blue', '--ip', '10.44.0.77', 'busybox', '/bin/echo'), {
      code: 125,
      stderr: /10\.44\.0\.77 is taken by endpoint "db"/,
    });
    await pingFrom('web', '10.44.0.77');
  });

  await t.test('publish ports', async (t) => {
    await docker.run(
      ...['run', '--detach', '--name', 'http', '--network', 'blue', '-p', '18080:80', 'busybox'],
      ...['/bin/sh', '-c', 'echo hello > /tmp/index.html; exec /bin/httpd -f -p 80 -h /tmp'],
    );
    const get = (address: string) => client.attempt(['busybox', 'wget', '-q', '-O', '-', `http://${address}:18080/`]);
    await until(async () => (await get(outsideIps.host.ip4)).stdout === 'hello\n', {
      what: 'the published port answers',
    });
    t.match(await docker.attempt('run', '--rm', '--network', 'red', '-p', '18081:80', 'busybox', '/bin/echo'), {
      code: 125,
      stderr: /network "red" has no outside/,
    });
    await docker.run('rm', '--force', 'http');
    t.equal((await get(outsideIps.host.ip4)).stdout, '');
  });

  await t.test('are connected while they run', async (t) => {
    await start('api', '--network', 'red');
    await docker.run('network', 'connect', '--ip', '10.44.0.88', 'blue', 'api');
    await pingFrom('api', '10.44.0.77');
    await pingFrom('web', '10.44.0.88');
    await docker.run('network', 'disconnect', 'blue', 'api');
    t.not((await docker.attempt('exec', 'api', '/bin/ping', '-c', '1', '-W', '1', '10.44.0.77')).code, 0);
    await docker.run('network', 'connect', 'blue', 'api');
    await pingFrom('api', '10.44.0.77');
  });

  await t.test('weft is killed', async () => {
    await weft.kill();
    await weft.start();
    await pingFrom('web', '10.44.0.77');
    await start('late', '--network', 'blue');
    await pingFrom('late', '10.44.0.77');
    await weft.takeOver();
    await pingFrom('late', '10.44.0.77');
    await docker.run('restart', '--time', '0', 'late');
    await pingFrom('late', '10.44.0.77');
  });

  await t.test('a container ends while weft is not there', async () => {
    await weft.kill();
    await docker.attempt('rm', '--force', 'late');
    await weft.start();
    await start('later', '--network', 'blue');
    await pingFrom('later', '10.44.0.77');
  });

  await t.test('a container is disconnected while weft is not there', async () => {
    const address = await addressOf('later', 'blue');
    await weft.kill();
    await docker.attempt('network', 'disconnect', '--force', 'blue', 'later');
    await weft.start();
    const isHeld = async () => (await weft.client.endpoints()).some(({ addresses }) => addresses.includes(address));
    // Docker does not say it again.
    await until(async () => !(await isHeld()), { what: 'its address comes back', timeoutMs: 120_000 });
    await until(async () => (await carried()).length === 0, { what: 'its interface is gone' });
  });

  await t.test('many are started at once, more than may be connected', async (t) => {
    const names = Array.from({ length: 50 }, (_, i) => `n${i}`);
    const results = await Promise.all(
      names.map((name) =>
        docker.attempt(
          'run',
          '--detach',
          '--init=false',
          '--name',
          name,
          '--network',
          'blue',
          'busybox',
          '/bin/sleep',
          '9999',
        ),
      ),
    );
    t.same(
      results.filter(({ code }) => code !== 0).map(({ stderr }) => stderr),
      [],
    );
    const addresses = await Promise.all(names.map((name) => addressOf(name, 'blue')));
    t.equal(new Set(addresses).size, 50);
    await docker.run('rm', '--force', ...names);
  });

  await t.test('dockerd is killed', async (t) => {
    await docker.kill();
    const shop = (await weft.client.endpoints()).filter(({ name }) => name === 'shop');
    t.equal(shop.length, 1);
    await docker.start();
    await docker.run('start', 'web', 'db');
    await pingFrom('web', '10.44.0.77');
    t.equal(await addressOf('db', 'blue'), '10.44.0.77');
  });

  const all = (await docker.run('ps', '--all', '--quiet')).split('\n').filter(Boolean);
  await docker.run('rm', '--force', ...all);
  await docker.run('network', 'rm', 'blue', 'red');
  await until(async () => (await weft.client.endpoints()).map(({ name }) => name).join() === 'shop', {
    what: 'all endpoints of Docker are gone',
  });
  await until(async () => (await carried()).length === 0, { what: 'all interfaces are gone' });
  t.match(await docker.attempt('network', 'ls', '--format', '{{.Name}}'), { stdout: /^(?!.*blue)/s });
});
