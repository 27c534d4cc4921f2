/** What hosts have of blocks when the store was lost, and another one has begun to count revisions anew. */
import t, { type Test } from 'tap';
import { Holding } from '../../src/cluster/addresses/holding.ts';
import { addressValue } from '../../src/model/address.ts';
import { networkKind } from '../../src/model/kinds/network.ts';
import type { Store } from '../../src/store/store.ts';
import { Switchable } from '../support/switchable.ts';
import { attach, blocksIn, blue, openHost, settled, type Plane } from './block-hosts.ts';
import { manifest, openStore } from './control-plane.ts';

t.setTimeout(120_000);

const FIRST = 'blocks/blue/4-10.0.0.0';

/** A new store that has the networks and the hosts of another one, and answers later, as over a network. */
async function anew(t: Test, from: Store): Promise<Switchable> {
  const store = await openStore(t);
  for (const prefix of ['hosts/', 'networks/']) {
    const { entries } = await from.list(prefix);
    await store.transact({ put: entries.map(({ key, value }) => ({ key, value })) });
  }
  const link = new Switchable(store);
  link.beforeList = () => new Promise((resolve) => setImmediate(resolve));
  return link;
}

/** Why an endpoint of this host cannot have its addresses; undefined if it can. */
const refusal = ({ endpoints }: Plane, name: string): string | undefined =>
  endpoints.problems()[name]?.find((why) => /address|ip /.test(why));

t.test('a host that starts after the store was lost does not take back what another one has by now', async (t) => {
  const shared = await openStore(t);
  let [a, c] = [await openHost(t, shared, 'a'), await openHost(t, shared, 'c')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await settled(c);
  // The other store does not come as far.
  for (let n = 0; n < 100; n++) await shared.transact({ put: [{ key: 'noise', value: n }] });
  t.equal(await attach(c, 'c1'), '10.0.0.2');
  t.equal(await attach(c, 'c2'), '10.0.0.3');
  await settled(a, c);
  for (const host of [a, c]) await host.close();

  const other = await anew(t, shared);
  a = await openHost(t, other, 'a', a.directory);
  await a.cluster.acceptStore();
  await settled(a);
  t.equal(await attach(a, 'a1'), '10.0.0.2', 'nobody else is known to have it');
  await settled(a);

  // Its clock stands still: the store answers in time, before its copy is put into force.
  c = await openHost(t, other, 'c', c.directory, { after: () => () => {} });
  t.match(refusal(c, 'c2'), /is not this host's: it is of a block of host "a"/);
  await settled(c, a, c);
  t.match((await blocksIn(other))[FIRST], { host: 'a' });
  t.equal(refusal(a, 'a1'), undefined);
  t.notOk(await other.get('endpoints/default/c1'), 'it is given up');
  t.match(c.feed.report()?.lost, [/^endpoint "c1" is given up: .* was given to endpoint "a1" of host "a"/]);
  // What nobody has is yielded to it.
  while (refusal(c, 'c2') !== undefined) {
    await c.cluster.serial.run(() => c.endpoints.renew());
    await settled(c, a, c);
  }
  t.equal(refusal(a, 'a1'), undefined);
  t.match((await blocksIn(other))[FIRST], { host: 'a', claimed: { '10.0.0.3': { host: 'c' } } });
});

t.test('what waits, as another network has its VNI by now, is not told as if it were back', async (t) => {
  const shared = await openStore(t);
  let a = await openHost(t, shared, 'a');
  const network = (name: string, subnet: string) => manifest('Network', name, { subnets: [subnet], vni: 5 });
  await a.cluster.apply([network('green', '10.1.0.0/24')]);
  const other = await anew(t, shared);
  await a.cluster.delete(networkKind, { name: 'green' });
  await a.cluster.apply([network('violet', '10.2.0.0/24')]);
  await a.close();
  a = await openHost(t, other, 'a', a.directory);
  const held = a.feed.report()!.held.filter(({ name }) => name.startsWith('network'));
  t.same(held, [
    { name: 'network "green"', change: 'returned' },
    { name: 'network "violet"', change: 'deleted' },
  ]);
  await a.cluster.apply([network('violet', '10.2.0.0/24')]);
  const why = /^it waits: VNI 5 is taken by network "violet": apply it again with another VNI /;
  t.match((await a.cluster.acceptStore()).accepted, [{ name: 'network "green"', change: 'returned', why }]);
});

const block = (): Holding => new Holding({ key: FIRST, network: 'blue', first: addressValue('10.0.0.0') }, 'c');
const [ONE, OTHER] = [addressValue('10.0.0.8'), addressValue('10.0.0.9')];
/** What the store says to a daemon that has started with what an earlier one has kept. */
function seen(own: object, record: object | undefined, revision: number): Holding {
  const holding = block();
  holding.fromOwn({ yielded: {}, singles: {}, used: {}, ...own }, 0);
  holding.see(record, record ? revision : 0, revision);
  return holding;
}

t.test('a record that is older than what a host remembers', async (t) => {
  const claimed = { '10.0.0.9': { host: 'b', endpoint: 'web' } };
  const can = (holding: Holding): boolean[] => [ONE, OTHER].map((address) => holding.mayUse(address));
  const held = { heldAt: 900 };
  t.same(can(seen(held, undefined, 60)), [true, true], 'of nobody');
  t.same(can(seen(held, { claimed: {} }, 60)), [true, true], 'with nothing in it');
  t.same(can(seen(held, { host: 'c', claimed: {} }, 60)), [true, true], 'of this host');
  t.same(can(seen(held, { host: 'a', claimed: {} }, 60)), [false, false], 'of another host');
  t.same(can(seen(held, { claimed }, 60)), [true, false], 'out of which another host has an address');
  t.same(can(seen(held, { claimed }, 901)), [true, false], 'the same, newer');
  t.same(can(seen(held, { host: 'c', claimed }, 60)), [true, false], 'the same, of this host');

  const single = { singles: { '10.0.0.9': { endpoint: 'c1', at: 900 } } };
  const other = { '10.0.0.8': { host: 'b', endpoint: 'web' } };
  const own = { '10.0.0.9': { host: 'c', endpoint: 'c1' } };
  t.same(can(seen(single, undefined, 60)), [false, true], 'of nobody, and one address is this host’s');
  t.same(can(seen(single, { claimed: other }, 60)), [false, true], 'with another address');
  t.same(can(seen(single, { host: 'a', claimed: own }, 60)), [false, true], 'with this address');
  t.same(can(seen(single, { claimed }, 60)), [false, false], 'with this address of another host');
  t.same(can(seen(single, { host: 'a', claimed: {} }, 60)), [false, false], 'of another host that has all of it');
});

t.test('what is lost to another history does not come back when its numbers are higher', async (t) => {
  const holding = seen({ heldAt: 900 }, { host: 'a', claimed: {} }, 60);
  t.notOk(holding.mayUse(ONE));
  t.equal(holding.toOwn(), undefined, 'nor after the next start');
  holding.see({ host: 'c', claimed: {} }, 901, 901);
  t.notOk(holding.mayUse(ONE), 'this daemon has not written it');
  holding.wrote(902);
  holding.see({ host: 'c', claimed: {} }, 902, 902);
  t.ok(holding.mayUse(ONE));
});

t.test('what was yielded a moment ago stays so while the record is one before that', async (t) => {
  const asked = { '10.0.0.9': { host: 'b', endpoint: 'web', isAsked: true } };
  const yielded = { '10.0.0.9': { host: 'b', endpoint: 'web', at: 900, isSure: false } };
  for (const before of [{ claimed: {} }, { host: 'c', claimed: asked }]) {
    const holding = seen({ heldAt: 900, yielded }, before, 800);
    holding.see({ host: 'c', claimed: asked }, 900, 900);
    t.notOk(holding.mayUse(OTHER), 'what an earlier daemon has sent may still arrive');
  }
});
