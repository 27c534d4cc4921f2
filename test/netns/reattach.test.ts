/**
 *   web ─┐
 *   db  ─┼─ weft          weft is killed and started again; meanwhile, and before,
 *   app ─┘                the containers change what they have
 *
 * A restart is not a reset: what a container did to its interface stays, and nothing is taken
 * down. Interfaces and namespaces are found by their identity, whatever their names are by
 * then.
 */
import t from 'tap';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { attachContainer, oneHost, overlay } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

interface LinkJson {
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly master?: string;
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number }[];
}

async function interfaceOf(namespace: Namespace, ifname = 'eth0'): Promise<unknown> {
  const [link] = JSON.parse(await namespace.ip(`-j address show dev ${ifname}`)) as [LinkJson];
  const addresses = link.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`).sort();
  return { isUp: link.flags.includes('UP'), mtu: link.mtu, master: link.master, addresses };
}

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const { weft, web, db } = await oneHost(lab, datapath);
    const app = await attachContainer(lab, weft, 'app', 13);
    const bridged = await attachContainer(lab, weft, 'bridged', 14);
    await ping(web.namespace, db.ip4);

    await t.test('what containers did stays: addresses, routes, MTU, a bridge, a link that is down', async (t) => {
      await web.namespace.ip('address add 10.44.0.100/32 dev eth0');
      await web.namespace.ip('link set eth0 mtu 1300');
      await web.namespace.ip('link set eth0 addrgenmode none');
      await web.namespace.ip('route add 172.20.0.0/16 via 10.44.0.99 dev eth0');
      await app.namespace.ip('link set eth0 down');
      await bridged.namespace.ip('link add br0 type bridge');
      await bridged.namespace.ip('address flush dev eth0');
      await bridged.namespace.ip('link set eth0 master br0');
      await bridged.namespace.ip(`link set br0 address ${bridged.mac} up`);
      await bridged.namespace.ip(`address add ${bridged.ip4}/24 dev br0`);
      await bridged.namespace.ip(`address add ${bridged.ip6}/64 dev br0 nodad`);
      await ping(web.namespace, bridged.ip4);
      const containers = [web, app, bridged].map(({ namespace }) => namespace);
      const before = await Promise.all(containers.map((namespace) => interfaceOf(namespace)));
      const monitor = web.namespace.start(['ip', '-o', 'monitor', 'link', 'route']);
      let mtu = 60_000;
      await until(
        async () => {
          await web.namespace.ip(`link set lo mtu ${++mtu}`);
          return monitor.stdout.includes('lo:');
        },
        { what: 'ip monitor listens' },
      );

      await weft.kill();
      await weft.start();
      await ping(web.namespace, db.ip4);
      await ping(web.namespace, bridged.ip4);
      t.same(await Promise.all(containers.map((namespace) => interfaceOf(namespace))), before);
      t.match(await web.namespace.ip('route show 172.20.0.0/16'), 'via 10.44.0.99');
      await monitor.stop();
      t.notMatch(monitor.stdout, /eth0: <BROADCAST,MULTICAST>/, 'the link was up all the time');
      t.notMatch(monitor.stdout, /Deleted (default|172)/, 'no route was lost');

      const problems = (await weft.status()).endpointProblems;
      t.match(problems['app']?.join(), /eth0 is down, the container took it down: `ip link set eth0 up` there/);
      t.same(Object.keys(problems), ['app'], 'the others are as they are to be');
      t.match((await weft.attempt('doctor')).stdout, /endpoint app .*eth0 is down/);
      await app.namespace.ip('link set eth0 up');
      await until(async () => !('app' in (await weft.status()).endpointProblems), { what: 'app is whole again' });
      await ping(app.namespace, web.ip6);
      t.match(await app.namespace.ip('route show default'), 'via 10.44.0.1');
    });

    await t.test('an interface that was renamed is the same', async (t) => {
      await db.namespace.ip('link set eth0 down');
      await db.namespace.ip('link set eth0 name lan0');
      await db.namespace.ip('link set lan0 up');
      await weft.kill();
      await weft.start();
      await ping(web.namespace, db.ip4);
      await ping(db.namespace, web.ip6);
      t.same(await db.namespace.links(), ['lan0']);
      t.equal((await weft.json('endpoints')).find(({ name }) => name === 'db')?.interface, 'lan0');
      t.match(await weft.run('trace', `in_port=db,udp,ip_dst=${web.ip4}`), /Actions: track, output\(web\)/);
    });

    await t.test('an interface that was deleted is made again by attaching it again', async (t) => {
      const state = async (): Promise<string | undefined> =>
        (await weft.json('endpoints')).find(({ name }) => name === 'app')?.state;
      await app.namespace.ip('link delete eth0');
      await until(async () => (await state()) === 'detached', { what: 'the endpoint is detached' });
      t.match(await weft.run('endpoints'), /^app: its interface is not there any more: attach it again$/m);
      t.match((await weft.attempt('doctor')).stdout, /endpoint app .*attach it again/);
      const { state: now, addresses } = await weft.attach(app.namespace, { network: overlay.network });
      t.same([now, addresses], ['attached', [app.ip4, app.ip6]], 'with the addresses that it had');
      await ping(app.namespace, web.ip4);
      t.notMatch((await weft.attempt('doctor')).stdout, /endpoint app/);
    });

    await t.test('a namespace lives on by another name, and by another process', async (t) => {
      const namespace = await lab.namespace('other');
      const first = namespace.start(['sleep', '1000']);
      const second = namespace.start(['sleep', '1000']);
      await until(async () => (await namespace.run(['readlink', `/proc/${first.pid}/ns/net`])).trim() !== '', {
        what: 'a process inside',
      });
      await weft.run('attach', 'other', '--network', overlay.network, '--pid', String(first.pid), '--ip', '10.44.0.77');
      const place = async (): Promise<string | undefined> =>
        (await weft.json('endpoints')).find(({ name }) => name === 'other')?.netns;
      await first.stop('SIGKILL');
      await until(async () => (await place()) === namespace.path, { what: 'it is known by its name' });
      await ping(web.namespace, '10.44.0.77');
      t.match(await weft.run('trace', `in_port=other,udp,ip_dst=${web.ip4}`), /Actions: track, output\(web\)/);
      await lab.removeNamespace(namespace);
      await until(async () => (await place()) === `/proc/${second.pid}/ns/net`, { what: 'it is known by its process' });
      await ping(web.namespace, '10.44.0.77');
      await weft.kill();
      await weft.start();
      await ping(web.namespace, '10.44.0.77');
      await second.stop('SIGKILL');
      await until(async () => (await place()) === undefined, { what: 'it is gone with the last process' });
    });
  });
}
