/**
 *   ┌ a ──────┐
 *   │ web, db │
 *   └── .1 ───┘
 *       └── 192.0.2.0/24 ── etcd (.100): falls silent just before a purge, or in the middle of it
 *
 * A host is taken out of a shared store as a whole, or goes on, or has stopped as without `--purge`: it is never left in between.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { loadConfig } from '../../src/config.ts';
import { WeftError } from '../../src/error.ts';
import { LocalSwitch } from '../../src/library/local-switch.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { within } from '../../src/store/within.ts';
import { openSwitch, type Switch } from '../../src/switch.ts';
import { etcdCluster } from '../support/cluster.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { blue, endpoint, Hooked, stateOf } from '../support/switch.ts';
import { ping } from '../support/traffic.ts';
import type { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

await t.test('etcd falls silent, and nobody has noticed it: the daemon goes on', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const cluster = await etcdCluster(lab, 1);
  const [weft] = (await cluster.up('native')) as [Weft];
  const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
  await weft.createNetwork('blue --subnet 10.44.0.0/24');
  await weft.attach(web, { name: 'web', network: 'blue' });
  const { addresses } = await weft.attach(db, { name: 'db', network: 'blue' });
  await ping(web, addresses[0]!);
  cluster.etcd.members[0]!.pause();
  t.match(await weft.attempt('down', '--purge'), {
    code: 1,
    stdout: '',
    stderr:
      /^weft: the store cannot be reached \(.+\): what it has of this host cannot be removed, so nothing was; `weft down` stops weft and keeps it\n$/,
  });
  t.match(await weft.status(), { forwarding: true, endpoints: 2 });
  await ping(web, addresses[0]!);
  cluster.etcd.members[0]!.resume();
  t.match(await weft.attempt('down', '--purge'), { code: 0, stdout: 'weft has stopped, its ports are removed\n' });
  t.same([await web.links(), await db.links()], [[], []]);
});

/** A store that all calls may fail of, although it is believed to be reachable. */
class Failing extends Hooked {
  isSilent = false;
  override readonly get = (key: string) => {
    if (this.isSilent) throw new WeftError('unreachable', 'no answer within 2 s');
    return this.store.get(key);
  };
}

async function openShared(lab: Lab) {
  const open = (name: string) =>
    openEmbeddedStore({ directory: join(lab.directory, name), onWarning: () => {}, after: () => () => {} });
  const [own, root] = [await open('own'), await open('shared')];
  const store = new Failing(within(root, 'state/', () => root.close()));
  const config = loadConfig({ host: 'here', state: join(lab.directory, 'own'), store: 'etcd://192.0.2.100:2379' });
  const options = { ...config, datapath: 'reference', logger: pino({ level: 'silent' }) } as const;
  const sw = await openSwitch(options, { own, store, applied: within(root, 'applied/'), questions: undefined });
  return { sw, store, program: new LocalSwitch(sw, options.logger) };
}

const web = async (lab: Lab, sw: Switch) => {
  const namespace = await lab.namespace('web');
  await sw.apply([blue, endpoint('web', namespace, '10.44.0.11')]);
  return namespace;
};

await t.test('a switch in a program goes on, too', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const { sw, store, program } = await openShared(lab);
  const namespace = await web(lab, sw);
  store.isSilent = true;
  await t.rejects(program.close({ purge: true }), { code: 'unreachable', message: /so nothing was; `weft down`/ });
  t.equal(stateOf(sw, 'web'), 'attached');
  t.match((await program.status()).forwarding, true);
  await ping(namespace, '10.44.0.1');
  store.isSilent = false;
  await program.close({ purge: true });
  t.same(await namespace.links(), []);
});

await t.test('the store fails in the middle: all is closed, and kept', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const { sw, store } = await openShared(lab);
  const namespace = await web(lab, sw);
  const resolvConf = `/etc/netns/${namespace.name}/resolv.conf`;
  await until(() => existsSync(resolvConf), { what: 'its resolv.conf' });
  store.writesLeft = 0;
  await t.rejects(sw.close({ purge: true }), {
    message:
      'weft has stopped, and has removed nothing: the store is gone; `weft up`, and then `weft down --purge`, removes it',
  });
  t.notOk(existsSync(resolvConf));
  t.same(await namespace.links(), ['eth0']);

  const again = await openShared(lab);
  await until(() => stateOf(again.sw, 'web') === 'attached', { what: 'its interface to be found' });
  await ping(namespace, '10.44.0.1');
  await again.sw.close({ purge: true });
  t.same(await namespace.links(), []);
});
