/**
 *   ┌ a ─────────┐   ┌ b ─────────┐   ┌ c ─────────┐
 *   │ client     │   │ app ───────────► app         │
 *   └─ .1 ───────┘   └─ .2 ───────┘   └─ .3 ───────┘
 *         └───── 192.0.2.0/24, one bridge ┴── etcd (.100)
 *
 * An endpoint moves from one host to another with its addresses and its MAC, and its connections go on: the same container,
 * whose interface is taken away on one host and made on the other.
 */
import t from 'tap';
import { etcdAddress, etcdCluster } from '../support/cluster.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { startTalk } from '../support/talk.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds, type Weft } from '../support/weft.ts';

t.setTimeout(300_000);

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const cluster = await etcdCluster(lab, 3);
    const [a, b, c] = (await cluster.up(datapath)) as [Weft, Weft, Weft];
    await a.createNetwork('blue --subnet 10.44.0.0/24 --subnet fd44::/64');
    const [client, app] = [await lab.namespace('client'), await lab.namespace('app')];
    await a.attach(client, { name: 'client', network: 'blue', arguments: ['--wait'] });
    const before = await b.attach(app, { name: 'app', network: 'blue', arguments: ['--label', 'tier=data', '--wait'] });
    const [ip4 = '', ip6 = ''] = before.addresses;
    const talk = await startTalk(client, app, ip4);
    const back = await lab.namespace('back');

    await t.test('without --move it is refused, naming the host', async (t) => {
      t.match(await c.attempt('attach', 'app', '--network', 'blue', '--netns', app.name), {
        code: 1,
        stderr: /endpoint "app" is on host "b": detach it first, or take it over with `weft attach --move`/,
      });
    });

    await t.test('it does not move to where another has the name of its interface, and works on', async (t) => {
      const taken = await lab.namespace('taken');
      await c.attach(taken, { name: 'other', network: 'blue', arguments: ['--wait'] });
      t.match(await c.attempt('attach', 'app', '--network', 'blue', '--netns', taken.name, '--move'), {
        code: 1,
        stderr:
          /endpoint "app": interface "eth0" exists in \S+taken already: the name of its interface cannot change, so remove that one first/,
      });
      t.match(await b.client.endpoints(), [{ name: 'app', state: 'attached' }, { name: 'client' }, { name: 'other' }]);
      await ping(client, ip4);
      await c.client.detach('other');
      await until(async () => (await b.client.endpoints()).length === 2, { what: 'b knows that it is gone' });
    });

    await t.test('with --move it moves, and established connections go on', async (t) => {
      let report: object = {};
      const pauseMs = await talk.during(async () => {
        report = await c.attach(app, { name: 'app', network: 'blue', arguments: ['--move', '--wait'] });
      });
      t.match(report, {
        state: 'attached',
        host: 'c',
        mac: before.mac,
        addresses: before.addresses,
        labels: { tier: 'data' },
      });
      t.notOk(talk.isClosed());
      t.comment(`the connection paused for ${pauseMs} ms`);
      await ping(client, ip6);
      t.match(await b.client.endpoints(), [{ name: 'app', state: 'remote', host: 'c' }, { name: 'client' }]);
      t.match(await b.attempt('trace', `in_port=app,icmp,ip_dst=${ip4}`), {
        code: 1,
        stderr: 'weft: flow: in_port: endpoint "app" is on host "c": trace it there\n',
      });
      t.same((await app.links()).filter((link) => link.includes('eth')).length, 1, 'one interface');
      t.match(b.log(), '"endpoint":"app","host":"c","msg":"endpoint has moved to another host"');
      t.notMatch(b.log(), '"msg":"endpoint waits"', 'what is planned is no warning');
    });

    await t.test('what an owner sends that does not know of the move is refused', async (t) => {
      await cluster.cut(cluster.hosts[2]!, [etcdAddress]);
      const moved = await b.attach(back, { name: 'app', network: 'blue', arguments: ['--move'] });
      t.match(moved, { state: 'attached', host: 'b', addresses: before.addresses });
      await until(async () => (await a.client.endpoints()).find(({ name }) => name === 'app')?.host === 'b', {
        what: 'a knows',
      });
      await ping(client, ip4);
      const refused = async (): Promise<number> => (await a.drops())['vtep_not_owner'] ?? 0;
      const counted = await refused();
      await app.attempt([
        'ping',
        '-c',
        '1',
        '-W',
        '1',
        (await a.client.endpoints()).find(({ name }) => name === 'client')!.addresses[0]!,
      ]);
      t.ok((await refused()) > counted, 'c still has its old container, and speaks for nobody');
      await ping(client, ip4);
      await cluster.mend(cluster.hosts[2]!);
      await until(async () => (await app.links()).every((link) => !link.includes('eth')), { what: 'c lets go of it' });
    });

    await t.test('from a host that does not run it moves without being told to', async (t) => {
      await b.stop();
      let told = '';
      const take = async (): Promise<boolean> => {
        const { code, stderr } = await c.attempt('attach', 'app', '--network', 'blue', '--netns', app.name);
        told = stderr;
        return code === 0;
      };
      await until(take, { what: 'b does not run any more' });
      t.match(told, 'endpoint "app": it was on host "b", which does not run: it is taken over');
      t.match(await c.client.endpoints(), [
        { name: 'app', state: 'attached', host: 'c', addresses: before.addresses },
        {},
      ]);
      await until(async () => (await client.attempt(['ping', '-c', '1', '-W', '1', ip4])).code === 0, {
        what: 'it answers',
      });
    });

    await t.test('a host that did not run meanwhile removes its interface when it starts', async (t) => {
      const isThere = async (): Promise<boolean> => (await back.links()).some((link) => link.includes('eth'));
      t.ok(await isThere(), 'nobody else could remove it');
      await b.start();
      await until(async () => !(await isThere()), { what: 'b removes it' });
      const told = /"endpoints":"app","msg":"endpoints that were attached here are not declared here any more/;
      await until(() => told.test(b.log()), { what: 'b tells it' });
      await b.client.detach('app');
      await b.attach(back, { name: 'app', network: 'blue', arguments: ['--wait'] });
      await b.stop();
      await until(async () => (await c.attempt('delete', 'endpoint', 'app')).code === 0, { what: 'c may delete it' });
      await c.attach(app, { name: 'app', network: 'blue', arguments: ['--wait'] });
      await b.start();
      await until(async () => !(await isThere()), { what: 'b removes it, which is another one by now' });
    });

    await t.test(
      'a host that was cut off when others deleted its endpoint removes the interface, and tells it',
      async (t) => {
        const [hostA, hostB, hostC] = cluster.hosts;
        await cluster.cut(hostC!, [etcdAddress, hostA!.underlay, hostB!.underlay]);
        const checks = async () => (await c.client.doctor()).checks.filter(({ check }) => check === 'host a');
        await until(async () => (await checks()).length > 0, { what: 'c hears nothing' });
        t.match(await checks(), [{ detail: 'nothing is heard from it, but as far as the store says it runs' }]);
        await until(async () => (await a.attempt('delete', 'endpoint', 'app')).code === 0, {
          what: 'c is known as down',
        });
        t.match((await checks())[0]!.detail, /^nothing is heard/, 'c cannot know better');
        await cluster.mend(hostC!);
        await until(async () => (await app.links()).every((link) => !link.includes('eth')), { what: 'c removes it' });
        t.match(c.log(), /"endpoints":"app","msg":"endpoints that were attached here are not declared here any more/);
      },
    );
    await talk.stop();
  });
}
