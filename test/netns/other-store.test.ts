/**
 *   web ── weft (a) ── etcd          and the same host with an embedded store
 *
 * A daemon that is started with another store than the one before it does not take the interfaces of endpoints that it does
 * not find there: it does not start. And how an operator moves the endpoints of a host to another store.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { etcdCluster } from '../support/cluster.ts';
import { openLab } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import { linkIdentity } from '../support/restart.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const EMBEDDED = ['--store', 'embedded'];

await t.test('another store than before', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const cluster = await etcdCluster(lab, 1);
  const [host] = cluster.hosts;
  const { namespace, name, underlay } = host!;
  const shared = await Weft.up(lab, namespace, name, cluster.options(host!, 'native'));
  const embedded = Weft.of(lab, namespace, name, { datapath: 'native', underlay });
  const web = await lab.namespace('web');
  await shared.createNetwork('blue --subnet 10.44.0.0/24');
  const { addresses } = await shared.attach(web, { network: 'blue' });
  const link = await linkIdentity(web);

  const refuses = (t: Test, weft: Weft, before: RegExp, what: string): Promise<unknown> => {
    const message = new RegExp(`weft: the endpoints of this host belong to .*\\(${before.source}\\).*: web: start`);
    return t.rejects(weft.start(), { message }, what);
  };

  await t.test('a takeover is refused, and the running daemon goes on', async (t) => {
    const refused = await shared.attemptTakeOver(EMBEDDED);
    t.equal(refused.code, 1);
    t.match(
      refused.stderr,
      `(${cluster.etcd.url}, prefix weft/), and would lose their interfaces with another one (embedded): web:`,
    );
    t.notMatch(shared.log(), 'a new daemon is about to take over');
    t.match(await shared.client.endpoints(), [{ name: 'web', state: 'attached' }]);
  });

  await t.test('so is a start without --store, and nothing is lost', async (t) => {
    await shared.stop();
    await refuses(t, embedded, /etcd:\/\/192\.0\.2\.100:\d+, prefix weft\//, 'it names the store before');
    t.same(await linkIdentity(web), link);
    const directory = shared.state;
    const own = await openEmbeddedStore({ directory, onWarning: (why) => t.fail(why), after: () => () => {} });
    await own.transact({ delete: ['store', 'followed'] });
    await own.close();
    await refuses(t, embedded, /etcd:\/\/…, cluster [0-9a-f]+/, 'also with the state directory of an earlier version');
    await shared.start();
    t.same(await linkIdentity(web), link);
    t.match(await shared.client.endpoints(), [{ name: 'web', state: 'attached', addresses }]);
  });

  const move = async (t: Test, from: Weft, to: Weft): Promise<void> => {
    const file = join(lab.directory, 'keep.yaml');
    writeFileSync(
      file,
      `${await from.run('get', 'network', '-o', 'yaml')}---\n${await from.run('get', 'ep', '-o', 'yaml')}`,
    );
    await from.run('down', '--purge');
    await from.ended();
    t.same(await web.links(), []);
    await to.start();
    await to.run('apply', '-f', file);
    t.match(await to.client.endpoints(), [{ name: 'web', state: 'attached', addresses }]);
  };

  await t.test('endpoints are brought along to the embedded store', (t) => move(t, shared, embedded));

  await t.test('and back, where a start is refused before', async (t) => {
    const moved = await linkIdentity(web);
    await embedded.stop();
    await refuses(t, shared, /embedded/, 'it names the store before');
    t.same(await linkIdentity(web), moved);
    await embedded.start();
    t.match((await embedded.attemptTakeOver(['--store', cluster.etcd.url])).stderr, /before \(embedded\)/);
    await move(t, embedded, shared);
  });
});
