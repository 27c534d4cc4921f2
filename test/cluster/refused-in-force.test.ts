/** While the store has a record that a host does not accept, what is in force of it can be used: attached to, given back, deleted. */
import t, { type Test } from 'tap';
import { endpointKind } from '../../src/model/kinds/endpoint.ts';
import { hostKind } from '../../src/model/kinds/host.ts';
import { networkKind } from '../../src/model/kinds/network.ts';
import { Switchable } from '../support/switchable.ts';
import { attach, blocksIn, blue, endpoint, openHost, type Plane, settled } from './block-hosts.ts';
import { openStore } from './control-plane.ts';

t.setTimeout(120_000);

const BLUE = 'networks/blue';
/** More than a block has. */
const MANY = 20;

const refused = ({ cluster }: Plane): string[] => cluster.refused.report().map(({ name }) => name);

t.test('endpoints are attached to a network, and its blocks are claimed, asked and given back', async (t) => {
  const shared = await openStore(t);
  let now = 1000;
  const link = new Switchable(shared);
  const [a, b] = [await openHost(t, shared, 'a'), await openHost(t, link, 'b', undefined, { clock: () => now })];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await settled(a, b);
  await attach(b, 'b0');
  await b.write({ [BLUE]: 'garbage', 'namespaces/default': 7 });
  await settled(a, b);
  for (const host of [a, b]) t.strictSame(refused(host).toSorted(), ['blue', 'default']);
  const names = Array.from({ length: MANY }, (_, n) => `b${n + 1}`);
  const given: string[] = [];
  for (const name of names) given.push(await attach(b, name));
  await settled(b);
  const ofB = async (): Promise<number> =>
    Object.values(await blocksIn(shared)).filter(({ host }) => host === 'b').length;
  t.ok((await ofB()) >= 2, 'another block');

  const free = `10.0.0.${Number(given.at(-1)!.split('.').at(-1)) + 1}`;
  t.equal(await attach(a, 'a1', free), free, 'another host gets a free address of its block');

  link.away();
  await attach(b, 'late');
  t.ok(b.endpoints.get('late').revision < 0, 'it is kept until the store is back');
  link.back();
  await settled(b);
  t.ok(await shared.get('endpoints/default/late'));

  for (const name of [...names, 'late']) await b.cluster.delete(endpointKind, { name });
  for (let times = 0; times < 3; times++) {
    now += 400_000;
    await settled(b);
  }
  t.equal(await ofB(), 1, 'the one in use is left');
  t.strictSame(refused(b).toSorted(), ['blue', 'default'], 'nobody has written the records anew');
});

t.test('a network, a host and its endpoints are deleted', async (t) => {
  const shared = await openStore(t);
  const [a, b] = [await openHost(t, shared, 'a'), await openHost(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await settled(a, b);
  await attach(a, 'a1');
  await attach(b, 'b1');
  await settled(a, b);
  await a.write({ 'endpoints/default/b1': { host: 'b', resource: 'garbage' }, 'endpoints/default/a1': 'garbage' });
  await settled(a);
  await b.close();
  await a.cluster.delete(hostKind, { name: 'b' });
  t.notOk(await shared.get('endpoints/default/b1'));
  await a.cluster.purge();
  t.notOk(await shared.get('endpoints/default/a1'));
  await a.write({ [BLUE]: { resource: {} } });
  await a.cluster.delete(networkKind, { name: 'blue' });
  t.notOk(await shared.get(BLUE));
  t.strictSame(await blocksIn(shared), {});
  t.strictSame(refused(a), []);
});

const A1 = 'endpoints/default/a1';
const RECORD = { host: 'b', resource: 'of a newer version' };

/** Host a has a1 and a2, b and c have them in force. Some of the three run. */
async function threeHosts(t: Test) {
  const shared = await openStore(t);
  const running = new Set(['a', 'b', 'c']);
  const options = { membership: { isReachable: (host: string) => running.has(host) } };
  const [a, b, c] = [
    await openHost(t, shared, 'a', undefined, options),
    await openHost(t, shared, 'b', undefined, options),
    await openHost(t, shared, 'c', undefined, options),
  ] as const;
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await settled(a, b, c);
  await attach(a, 'a1');
  await attach(a, 'a2');
  await settled(a, b, c);
  return { shared, running, a, b, c };
}

t.test('an endpoint that has moved to a host of a newer version stays that one’s', async (t) => {
  const { shared, running, a, b, c } = await threeHosts(t);
  await b.write({ [A1]: RECORD });
  await settled(a, b, c);
  t.strictSame(refused(a), ['a1']);

  const isOnB = {
    code: 'conflict',
    message:
      'endpoint "a1" is on host "b", as a record says that this version of weft does not accept: detach it there first, or take it over with `weft attach --move`',
  };
  await t.rejects(attach(a, 'a1'), isOnB);
  const [shown] = c.cluster.get(endpointKind, { name: 'a1' });
  t.match(shown, { spec: { host: 'a' } });
  for (const host of [a, c]) await t.rejects(host.cluster.apply([shown!]), isOnB);
  await t.rejects(attach(c, 'a1'), isOnB);
  await t.rejects(a.cluster.delete(endpointKind, { name: 'a1' }), {
    code: 'not_found',
    message: 'endpoint "a1" is on host "b" by now: delete it there',
  });
  await a.cluster.purge();
  await settled(a, b, c);
  t.notOk(await shared.get('endpoints/default/a2'));
  await a.close();
  running.delete('a');
  await t.rejects(attach(c, 'a1'), isOnB, 'whether the host runs that it has left or not');
  await c.cluster.delete(hostKind, { name: 'a' });
  t.same((await shared.get(A1))?.value, RECORD);
  await c.cluster.change(() => c.cluster.applyOrTakeBack(endpoint('a1', {}), { moves: ['a1'] }));
  t.match((await shared.get(A1))?.value, { host: 'c', resource: { kind: 'Endpoint' } }, 'that was asked for');
});

t.test('an endpoint that has moved to a host of a newer version that is gone can be used and deleted', async (t) => {
  const { shared, running, a, b, c } = await threeHosts(t);
  const address = a.endpoints.get('a1').addresses;
  for (const owner of ['b', 'zzz']) {
    const record = { ...RECORD, host: owner };
    running.delete('b');
    await a.write({ [A1]: record });
    await settled(a, b, c);
    t.strictSame(refused(a), ['a1']);
    await attach(a, 'a1');
    t.match((await shared.get(A1))?.value, { host: 'a', addresses: address });
    await a.write({ [A1]: record });
    await a.cluster.delete(endpointKind, { name: 'a1' });
    t.notOk(await shared.get(A1));
    await attach(a, 'a1', ...address);
    running.add('b');
  }
  // On one host, nothing of it was ever in force.
  await a.write({ [A1]: RECORD, 'endpoints/default/b9': RECORD });
  await settled(a, c);
  await b.close();
  running.delete('b');
  await a.cluster.delete(hostKind, { name: 'b' });
  t.strictSame(
    (await shared.list('endpoints/')).entries.map(({ key }) => key),
    ['endpoints/default/a2'],
  );
});
