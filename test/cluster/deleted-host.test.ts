/** A host that another one has deleted, while it was down or cut off from the store. */
import t from 'tap';
import { contents, endpointOf, twoHosts, WEB } from './feed-host.ts';

const [HOST, APP] = ['hosts/a', 'endpoints/default/app'];
const RECORD = { host: 'a', id: 'aa' };

for (const what of ['is cut off', 'is down', 'follows the store'] as const) {
  t.test(`one that ${what} says which endpoints went with it`, async (t) => {
    const { shared, start, a: running } = await twoHosts(t);
    await running.set(HOST, RECORD);
    await running.set(APP, endpointOf('a', '10.0.0.3'));
    if (what === 'is cut off') running.link.away();
    if (what === 'is down') await running.stop();
    await shared.transact({ delete: [HOST, WEB, APP] });
    if (what === 'is cut off') running.link.back();
    const a = what === 'is down' ? await start('a', { known: running.directory }) : running;
    await a.until(() => !a.inForce.has(WEB), 'the deletion');
    const why =
      'host "a" was deleted on another host while it was down or cut off, and its endpoints with it (web, app): it registers itself again without them';
    t.same(a.report.lost, [why]);
    t.ok(a.log.includes(why));
    await a.set(HOST, RECORD);
    t.same(a.report.lost, [why], 'also when it has registered itself again');
    t.same(
      Object.keys(await contents(shared)).filter((key) => key.startsWith('endpoints')),
      ['endpoints/default/db'],
    );
    t.same((await a.accept()).lost, [why], 'until somebody has read it');
    t.same(a.report.lost, []);
  });
}

t.test('what another host deletes of its own, and what this host deletes itself, is not that', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  await a.set(HOST, RECORD);
  await b.set('hosts/b', { host: 'b' });
  await a.until(() => a.inForce.has('hosts/b'), 'the other host');
  await shared.transact({ delete: ['hosts/b', WEB] });
  await a.until(() => !a.inForce.has('hosts/b'), 'that it was deleted');
  await a.set(HOST, undefined);
  t.same(a.report.lost, []);
});
