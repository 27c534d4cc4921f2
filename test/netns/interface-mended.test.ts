/**
 *   web ─┐
 *   db  ─┴─ weft          somebody takes away what weft gave
 *
 * Whatever is missing is restored by `attach` and `apply` at once, and by the daemon soon. A
 * namespace with IPv6 disabled can be attached. Of several networks, the one with an outside
 * has the default route, and the kernel chooses again when it goes.
 */
import t from 'tap';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { oneHost, overlay, overlayIps } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';

t.setTimeout(600_000);

await t.test('what was taken away is put back', async (t) => {
  const { weft, web, db } = await oneHost(openLab(t), 'native');
  const text = async (): Promise<string> => {
    const words = ['address show dev eth0', 'route show default', '-6 route show default'];
    return (await Promise.all(words.map((one) => web.namespace.ip(one)))).join('');
  };
  const given = [`${web.ip4}/24`, `${web.ip6}/64`, 'inet6 fe80::', 'via 10.44.0.1', 'via fd44::1'];
  const missing = async (): Promise<string[]> => {
    const now = await text();
    return given.filter((one) => !now.includes(one));
  };
  await until(async () => (await missing()).length === 0, { what: 'all that was given' });

  await t.test('by attaching the same again', async (t) => {
    // The daemon puts it back by itself, perhaps before doctor has asked.
    const isTold = async (): Promise<boolean> => {
      await web.namespace.ip('address flush dev eth0');
      const { stdout } = await weft.attempt('doctor');
      return /endpoint web .*address 10\.44\.0\.11\/24/.test(stdout);
    };
    await until(isTold, { what: 'doctor to tell it' });
    await weft.attach(web.namespace, {
      network: overlay.network,
      arguments: overlayIps(11).flatMap((ip) => ['--ip', ip]),
    });
    t.same(await missing(), []);
    await ping(db.namespace, web.ip4);
    await ping(db.namespace, web.ip6);
  });

  await t.test('by the daemon itself: addresses, routes, MAC, carrier', async (t) => {
    await web.namespace.ip('address flush dev eth0');
    await web.namespace.ip('link set eth0 address 02:00:00:00:00:99');
    await web.namespace.ip('link set eth0 carrier off');
    await until(async () => (await missing()).length === 0, { what: 'all that was given' });
    t.match(await web.namespace.ip('link show dev eth0'), web.mac);
    await ping(db.namespace, web.ip4);
    t.match(weft.log(), /"mended":\[/, 'and it is logged');
    t.same((await weft.status()).endpointProblems, {});
  });
});

await t.test('an interface that was moved to another namespace', async (t) => {
  const lab = openLab(t);
  const { weft, web, db } = await oneHost(lab, 'native');
  const nested = await lab.namespace('nested');
  const index = /^(\d+):/.exec(await web.namespace.ip('-o link show dev eth0'))![1]!;
  await web.namespace.ip(`link set eth0 netns ${nested.name}`);
  await web.namespace.ip(`link add other index ${index} type veth peer name peer`);
  await until(async () => (await weft.status()).endpointProblems['web']?.[0]?.includes('no longer in '), {
    what: 'the move to be told',
  });
  const isUntouched = async (): Promise<void> => {
    const other = await web.namespace.ip('address show dev other');
    t.notMatch(other, /inet|,UP/, 'what has its index now is not given its addresses');
    t.notMatch(other, web.mac);
  };
  await isUntouched();

  await web.namespace.ip('link del other');
  await nested.ip(`link set eth0 netns ${web.namespace.name}`);
  await web.namespace.ip('link set eth0 up');
  await until(async () => Object.keys((await weft.status()).endpointProblems).length === 0, { what: 'it is whole' });
  await ping(db.namespace, web.ip4);

  // A container gives its interface more names than fit into a page or four; weft finds it nevertheless.
  const names = Array.from({ length: 250 }, (_, n) => `altname ${String(n).padStart(120, 'x')}`);
  for (let at = 0; at < names.length; at += 5) {
    await web.namespace.ip(`link property add dev eth0 ${names.slice(at, at + 5).join(' ')}`);
  }
  await weft.kill();
  await weft.start();
  t.same((await weft.status()).endpointProblems, {});
  await ping(db.namespace, web.ip4);

  await weft.kill();
  await web.namespace.ip(`link set eth0 netns ${nested.name}`);
  await web.namespace.ip(`link add other index ${index} type veth peer name peer`);
  await weft.start();
  t.equal((await weft.client.endpoints()).find(({ name }) => name === 'web')?.state, 'detached');
  await isUntouched();
});

await t.test('a namespace where IPv6 is disabled', async (t) => {
  const lab = openLab(t);
  const { weft, web, db } = await oneHost(lab, 'native');
  const sysctl = (namespace: Namespace, setting: string): Promise<string> => namespace.run(['sysctl', '-qw', setting]);
  const closed = await lab.namespace('closed');
  await sysctl(closed, 'net.ipv6.conf.all.disable_ipv6=1');
  await sysctl(closed, 'net.ipv6.conf.default.disable_ipv6=1');
  const [ip4, ip6] = overlayIps(20);
  await weft.attach(closed, { network: overlay.network, arguments: ['--ip', ip4, '--ip', ip6] });
  await ping(web.namespace, ip4);
  await ping(web.namespace, ip6);

  await t.test('disabled after attaching: IPv4 goes on, and it is told', async (t) => {
    await sysctl(db.namespace, 'net.ipv6.conf.all.disable_ipv6=1');
    await weft.kill();
    await weft.start();
    await ping(web.namespace, db.ip4);
    const told = (await weft.status()).endpointProblems['db']?.join();
    t.match(told, /IPv6 is disabled on eth0, so fd44::c is not reached/);
    t.match(await weft.run('endpoints'), /^db: IPv6 is disabled/m);
  });
});

await t.test('default routes of several networks', async (t) => {
  const lab = openLab(t);
  const { weft, web } = await oneHost(lab, 'native');
  await weft.createNetwork('out --subnet 10.45.0.0/24 --outside');
  await weft.createNetwork('third --subnet 10.46.0.0/24');
  const attach = (network: string, ifname: string): Promise<string> =>
    weft.run('attach', network, '--network', network, '--netns', web.namespace.name, '--ifname', ifname);
  const chosen = async (): Promise<string | undefined> =>
    / dev (\S+)/.exec(await web.namespace.ip('route get 203.0.113.1'))?.[1];
  await attach('third', 'eth1');
  t.equal(await chosen(), 'eth0', 'among equals the first');
  await attach('out', 'eth2');
  t.equal(await chosen(), 'eth2', 'the one with an outside');
  t.equal((await web.namespace.ip('route show default')).trim().split('\n').length, 3);

  await web.namespace.ip('route add default via 10.46.0.1 dev eth1');
  t.equal(await chosen(), 'eth1', 'a route of the container’s own comes before all');
  await web.namespace.ip('route del default via 10.46.0.1 dev eth1 metric 0');

  await weft.run('detach', 'out');
  t.equal(await chosen(), 'eth0', 'the kernel elects anew');
});
