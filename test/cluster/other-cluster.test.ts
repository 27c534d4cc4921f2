/** A shared store that belongs to another cluster, and a host that joins that one. */
import t, { type Test } from 'tap';
import { Hooked } from '../support/switch.ts';
import { openStore } from './control-plane.ts';
import { BLUE, contents, DB, endpointOf, hostsOf, twoHosts, WEB, type StartOptions } from './feed-host.ts';

t.test('a store that belongs to another cluster', async (t) => {
  const { shared, start, a } = await twoHosts(t);
  const other = await openStore(t);
  const startOther = hostsOf(t, other);
  const x = await startOther('x');
  await x.set('networks/x', { vni: 5 });
  const before = a.values();
  const there = await contents(other);
  await a.stop();
  const starting = await startOther('a', { known: a.directory });
  const why =
    /^the store is that of another cluster \(cluster-x; this host belongs to cluster-a\): correct its address/;
  t.match(starting.report.refused, why);
  t.same(starting.values(), before, 'what is in force stays so');
  await t.rejects(starting.set(BLUE, undefined), { code: 'state', message: why });
  await starting.set('endpoints/default/app', endpointOf('a', '10.0.0.3'));
  t.same(await contents(other), there, 'nothing is written to it');
  t.ok(starting.log.some((line) => why.test(line)));

  const losses = [
    ...['endpoint "web"', 'endpoint "app"'].map((name) => ({
      ...{ name, change: 'waiting' as const },
      why: 'there is no network "blue" there',
    })),
    ...['network "blue"', 'endpoint "db"'].map((name) => ({ name, change: 'deleted' as const })),
  ];
  const isToldOf = (name: string): boolean => starting.report.losses?.some((loss) => loss.name === name) ?? false;
  await starting.until(() => isToldOf('endpoint "app"'), 'that the store is looked at again');
  t.same(starting.report.losses, losses, 'what goes is told before');
  t.same(await starting.accept(), { accepted: losses, cluster: 'cluster-x' });
  t.equal(starting.report.losses, undefined);
  await starting.until(() => starting.report.pending.length === 0, 'its own records');
  await x.until(() => x.inForce.has('endpoints/default/app') && x.inForce.has(WEB), 'what it brings along');
  t.same(starting.values(), x.values());
  t.notOk(starting.inForce.has(BLUE));
  await x.set('networks/y', { vni: 6 });
  await starting.until(() => starting.inForce.has('networks/y'), 'what is new');

  // And a running host whose store is exchanged.
  const c = await start('c');
  const own = c.values();
  c.link.away();
  c.link.back(other);
  await c.until(() => c.report.refused !== undefined, 'the refusal');
  t.same(c.values(), own);
  c.link.away();
  c.link.back(shared);
  for (let tick = 0; tick < 5; tick++) c.feed.tick();
  await c.until(() => c.report.refused === undefined, 'its own store');
  t.same(c.report.held, []);
});

/** A host of one cluster, stopped, and how to start it with the store of another one. */
async function toOtherStore(t: Test) {
  const { a } = await twoHosts(t);
  await a.stop();
  const other = await openStore(t);
  const start = hostsOf(t, other);
  const x = await start('x');
  const join = (options: StartOptions = {}) => start('a', { known: a.directory, ...options });
  return { before: a.values(), other, x, join };
}

t.test('what a host brings along to another cluster stays in force until it is stored there', async (t) => {
  const { other, join, x } = await toOtherStore(t);
  const joining = await join();
  joining.barred = 'its name is taken there';
  await joining.accept();
  t.ok(joining.inForce.has(WEB));
  joining.feed.audit();
  for (let tick = 0; tick < 10; tick++) joining.feed.tick();
  await joining.until(() => joining.report.audit.runs === 1, 'an audit');
  t.equal(joining.report.audit.mismatches, 0);
  const { lists } = joining.link;
  joining.link.compact();
  await joining.until(() => joining.link.lists > lists, 'that all is read again');
  await x.set('networks/x', { vni: 5 });
  await joining.until(() => joining.inForce.has('networks/x'), 'that the store is followed');
  t.ok(joining.inForce.has(WEB), 'also when all has been read again');
  t.notOk(x.inForce.has(WEB));

  const away = await join({ isAway: true });
  t.same(away.values(), joining.values(), 'and when the daemon was killed');
  away.link.back();
  await x.until(() => x.inForce.has(WEB), 'what it brings along');
  t.same(away.values(), x.values());
  await other.transact({ delete: [WEB] });
  await away.until(() => !away.inForce.has(WEB), 'that it is deleted, as any other one');
  const again = await join();
  t.notOk(again.inForce.has(WEB));
});

t.test('what a host changed while its old store was away comes along to another cluster', async (t) => {
  const { a } = await twoHosts(t);
  const [changed, made] = [endpointOf('a', '10.0.0.1', { labels: { app: 'after' } }), endpointOf('a', '10.0.0.4')];
  a.link.away();
  await a.set(WEB, changed);
  await a.set('endpoints/default/app', made);
  await a.stop();
  const start = hostsOf(t, await openStore(t));
  const x = await start('x');
  const joining = await start('a', { known: a.directory });
  await joining.accept();
  await joining.until(() => joining.report.pending.length === 0, 'that the store has them');
  t.same(joining.report.lost, []);
  await x.until(() => x.inForce.has('endpoints/default/app') && x.inForce.has(WEB), 'what it brings along');
  t.match(x.values(), { [WEB]: changed, 'endpoints/default/app': made });
  t.same(joining.values(), x.values());
});

t.test('what a host has of an address that another one has in the cluster that it joins is given up', async (t) => {
  const { other, join, x } = await toOtherStore(t);
  await x.set('endpoints/default/x', endpointOf('x', '10.0.0.1'));
  const joining = await join();
  await joining.accept();
  t.match(joining.report.lost, [/^endpoint "web" is given up: .* was given to endpoint "x" of host "x"/]);
  t.notOk(joining.inForce.has(WEB));
  t.notOk(await other.get(WEB));
});

t.test('an operator knows before which endpoints of the host cannot be in force in another cluster', async (t) => {
  const { a } = await twoHosts(t);
  await a.set('endpoints/default/six', { ...endpointOf('a', '10.0.0.12'), addresses: ['fd00:1::12'] });
  await a.set('endpoints/default/last', endpointOf('a', '10.0.0.127'));
  await a.set('endpoints/default/taken', endpointOf('a', '10.0.0.5'));
  await a.set('endpoints/default/named', endpointOf('a', '10.0.0.6'));
  await a.set('endpoints/default/fits', endpointOf('a', '10.0.0.7'));
  a.link.away();
  await a.set('endpoints/default/pending', endpointOf('a', '10.0.0.8'));
  await a.stop();
  const other = await openStore(t);
  const start = hostsOf(t, other);
  const x = await start('x');
  const spec = { subnets: ['10.0.0.0/25'] };
  const network = { apiVersion: 'weft.dev/v1', kind: 'Network', metadata: { name: 'blue' }, spec };
  await x.set(BLUE, { resource: network, vni: 9 });
  await x.set('endpoints/default/x', { ...endpointOf('x', '10.0.0.5'), mac: '02:00:00:00:00:77' });
  await x.set('endpoints/default/y', { ...endpointOf('x', '10.0.0.9'), mac: '02:00:00:00:00:08' });
  await x.set('endpoints/default/named', endpointOf('x', '10.0.0.10'));
  const joining = await start('a', { known: a.directory });
  const told = [
    ['six', 'waiting', 'ip fd00:1::12 is outside the subnets of network "blue" (10.0.0.0/25) there'],
    ['last', 'waiting', 'ip 10.0.0.127 is the broadcast address of subnet 10.0.0.0/25 of network "blue" there'],
    ['web', 'waiting', 'ip 10.0.0.1 is the gateway\'s of network "blue" there'],
    ['taken', 'deleted', 'ip 10.0.0.5 in network "blue" is that of endpoint "x" of host "x" there'],
    ['named', 'changed', 'host "x" has it there'],
    ['pending', 'deleted', 'mac 02:00:00:00:00:08 in network "blue" is that of endpoint "y" of host "x" there'],
  ].map(([name, change, why]) => ({ name: `endpoint "${name}"`, change, why }));
  const rest = [
    { name: 'network "blue"', change: 'changed' },
    { name: 'endpoint "db"', change: 'deleted' },
  ];
  const byName = (a: { readonly name: string }, b: { readonly name: string }): number => (a.name < b.name ? -1 : 1);
  const losses = joining.report.losses ?? [];
  t.same(losses.slice(0, told.length).sort(byName), told.sort(byName));
  t.same(losses.slice(told.length).sort(byName), rest.sort(byName));
  t.same((await joining.accept()).accepted, losses, 'and by the command');
  t.ok(joining.inForce.has(WEB) && joining.inForce.has('endpoints/default/fits'));
  t.notOk(joining.inForce.has('endpoints/default/taken') || joining.inForce.has('endpoints/default/pending'));
});

t.test('what clashes in another cluster is given up, whatever is done to it there meanwhile', async (t) => {
  const { other, join, x } = await toOtherStore(t);
  await x.set(DB, endpointOf('x', '10.0.0.9'));
  await x.set(WEB, endpointOf('a', '10.0.0.1', { labels: { app: 'before' } }));
  const joining = await join();
  await joining.set(WEB, endpointOf('a', '10.0.0.9'));
  const changed = endpointOf('a', '10.0.0.1', { labels: { app: 'after' } });
  const isGivenUp = (): boolean => joining.log.some((line) => line.startsWith('endpoint "web" is given up'));
  joining.link.beforeCall = async () => {
    if (!isGivenUp()) return;
    joining.link.beforeCall = async () => {};
    await x.set(WEB, changed);
  };
  await joining.accept();
  t.ok(isGivenUp());
  t.same(joining.report.pending, []);
  t.match((await other.get(WEB))?.value, { addresses: ['10.0.0.1'] });
  await x.until(() => x.report.revision === joining.report.revision, 'what is there');
  t.same(joining.values(), x.values());
});

t.test('a host that is killed when it has just joined another cluster', async (t) => {
  const { before, x, join } = await toOtherStore(t);
  const killed = await join({
    wrap: (store) => {
      const own = new Hooked(store);
      own.beforeTransact = async (transaction) => {
        if (!transaction.put?.some(({ key }) => key === 'cluster')) return;
        await store.transact(transaction);
        throw new Error('it is killed');
      };
      return own;
    },
  });
  await t.rejects(killed.accept());
  t.same(killed.values(), before);
  t.same((await join({ isAway: true })).values(), before, 'what is in force stays so');
  const again = await join();
  t.ok(again.inForce.has(WEB));
  await x.until(() => x.inForce.has(WEB), 'what it brings along');
  t.same(again.values(), x.values());
  t.same((await join({ isAway: true })).values(), x.values(), 'nothing of the cluster before is left');
});
