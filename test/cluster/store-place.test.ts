/** A host that has followed a store, and is started with a place that has nothing of weft. */
import t from 'tap';
import { openStore } from './control-plane.ts';
import { BLUE, contents, DB, DEFAULT, endpointOf, hostsOf, PLACE, twoHosts, WEB } from './feed-host.ts';

const OTHER_PREFIX = { ...PLACE, prefix: 'other/' };
const OTHER_ETCD = { ...PLACE, endpoints: ['192.0.2.101:2379'] };
const [APP, NEW_ETCD] = ['endpoints/default/app', ' of another cluster id'];

for (const [what, place, history, advice] of [
  ['a wrong prefix', OTHER_PREFIX, '', 'prefix'],
  ['another etcd', OTHER_ETCD, NEW_ETCD, 'address'],
  ['another etcd with the same cluster ID', OTHER_ETCD, '', 'address'],
] as const) {
  t.test(`${what}: the host says where its state was, and leaves everything as it is`, async (t) => {
    const { a, start } = await twoHosts(t);
    const before = a.values();
    await a.stop();
    const empty = await openStore(t);
    const startThere = hostsOf(t, empty);
    for (const time of ['first', 'second']) {
      const mistaken = await startThere('a', { known: a.directory, place, history });
      const now = `${place.endpoints[0]}, prefix ${place.prefix}`;
      const why = `the store has nothing of weft there (etcd://${now}), and this host has followed it elsewhere (etcd://192.0.2.100:2379, prefix weft/): correct its ${advice}; or, `;
      t.match(mistaken.report, { refused: why, signs: [], held: [], losses: [] }, `${time} start`);
      t.same(mistaken.values(), before, 'what is in force stays so');
      await mistaken.set(APP, endpointOf('a', time === 'first' ? '10.0.0.3' : '10.0.0.4'));
      await t.rejects(mistaken.set(BLUE, undefined), { code: 'state' });
      for (let tick = 0; tick < 10; tick++) mistaken.feed.tick();
      await mistaken.settle();
      t.same(await contents(empty), {}, 'nothing is written there');
      before[APP] = mistaken.values()[APP];
      await mistaken.stop();
    }
    const back = await start('a', { known: a.directory });
    await back.until(() => back.report.pending.length === 0, 'that the store has what was made meanwhile');
    t.match(back.report, { signs: [], held: [], lost: [], refused: undefined });
    t.same(back.values(), Object.fromEntries(Object.entries(before).sort(([x], [y]) => (x < y ? -1 : 1))));
  });
}

t.test('the cluster goes on there if the operator says so on one host, and nothing goes by that', async (t) => {
  const { a, b } = await twoHosts(t);
  const before = a.values();
  for (const host of [a, b]) await host.stop();
  const empty = await openStore(t);
  const startThere = hostsOf(t, empty);
  const moved = await startThere('a', { known: a.directory, place: OTHER_PREFIX });
  t.same(await moved.accept(), { accepted: [], follows: 'etcd://192.0.2.100:2379, prefix other/' });
  t.equal(moved.report.refused, undefined);
  t.same(moved.values(), before);
  const held = ['namespace "default"', 'network "blue"'].map((name) => ({ name, change: 'deleted' }));
  t.match(moved.report.signs, ['its record `format` is missing']);
  await moved.until(() => moved.report.pending.length === 0, 'its own records');
  const follower = await startThere('b', { known: b.directory, place: OTHER_PREFIX });
  t.equal(follower.report.refused, undefined, 'other hosts follow');
  for (const host of [moved, follower]) {
    await host.until(() => !host.report.held.some(({ name }) => name.startsWith('endpoint')), 'own records');
    t.same(host.values(), before);
    t.same(host.report.held, held);
  }
  t.same(Object.keys(await contents(empty)), [DB, WEB, 'format']);
  await moved.set(BLUE, { vni: 1, labels: {} });
  t.same((await moved.accept()).accepted, [held[0]], 'then the rest is decided');
  t.notOk(moved.inForce.has(DEFAULT));
  const again = await startThere('a', { known: a.directory, place: OTHER_PREFIX });
  t.equal(again.report.refused, undefined, 'from then on, that is its place');
});

t.test('an etcd that is emptied and gets a member is not elsewhere', async (t) => {
  const { a } = await twoHosts(t);
  await a.stop();
  const place = { ...PLACE, endpoints: ['192.0.2.101:2379', ...PLACE.endpoints] };
  const there = await hostsOf(t, await openStore(t))('a', { known: a.directory, place, history: NEW_ETCD });
  t.equal(there.report.refused, undefined);
  t.ok(there.report.held.some(({ name }) => name === 'network "blue"'));
});

t.test('a store of another cluster at another place is told with both places', async (t) => {
  const { a } = await twoHosts(t);
  await a.stop();
  const start = hostsOf(t, await openStore(t));
  await start('x');
  const there = await start('a', { known: a.directory, place: OTHER_PREFIX });
  t.match(
    there.report.refused,
    'correct its address or prefix (it is etcd://192.0.2.100:2379, prefix other/ now, and was etcd://192.0.2.100:2379, prefix weft/ before), or follow',
  );
});

t.test('another etcd at the same place is told by both cluster IDs', async (t) => {
  const { a } = await twoHosts(t);
  await a.stop();
  const there = await hostsOf(t, await openStore(t))('a', { known: a.directory, history: NEW_ETCD });
  t.match(there.report.signs, [
    'its record `format` is missing',
    /its cluster ID was .*, and is .* of another cluster id/,
  ]);
});
