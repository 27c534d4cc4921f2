/**
 *   old ─╮
 *        ├─ switch      one is detached while the other waits to be attached, and old's interface
 *   new ─╯              or its whole namespace goes at that moment
 *
 * Port numbers and names are given again at once. What was lost is not looked for under its number or
 * name later, when these belong to somebody else.
 */
import t from 'tap';
import { NetnsWatcher } from '../../src/link/netns-watcher.ts';
import { resolveNetns } from '../../src/link/netns.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { blue, endpoint, openSwitchOf, stateOf, type Opened } from '../support/switch.ts';
import { ping } from '../support/traffic.ts';

t.setTimeout(60_000);

/** From now on, writes wait until the returned function is called. */
function hold({ store }: Opened): () => void {
  let release = (): void => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  store.beforeTransact = () => released;
  return () => {
    store.beforeTransact = async () => {};
    release();
  };
}

await t.test(
  'another endpoint gets the port number of one whose interface is deleted',
  { skip: needsRoot },
  async (t) => {
    const lab = openLab(t);
    const opened = await openSwitchOf(t, lab);
    const { sw, log } = opened;
    const [before, after] = [await lab.namespace('old'), await lab.namespace('new')];
    await sw.apply([blue, endpoint('old', before, '10.44.0.11')]);
    const { port } = sw.endpoints()[0]!;

    const release = hold(opened);
    const detached = sw.detach({ name: 'old' });
    const attached = sw.apply([endpoint('new', after, '10.44.0.12')]);
    await before.ip('link del eth0');
    await until(() => log.includes('port lost'), { what: 'the loss of the interface' });
    release();
    await Promise.all([detached, attached]);
    // What was lost is handled before this.
    await sw.apply([blue]);
    t.match(sw.endpoints(), [{ name: 'new', state: 'attached', port }]);
    await ping(after, '10.44.0.1');
  },
);

await t.test(
  'an endpoint is attached again elsewhere when its namespace is deleted',
  { skip: needsRoot },
  async (t) => {
    const lab = openLab(t);
    const opened = await openSwitchOf(t, lab);
    const { sw } = opened;
    const [before, after] = [await lab.namespace('old'), await lab.namespace('new')];
    await sw.apply([blue, endpoint('web', before, '10.44.0.11')]);
    const watcher = new NetnsWatcher(setInterval);
    t.teardown(() => watcher.close());
    let isGone = false;
    watcher.watch(await resolveNetns({ netns: before.name }), () => (isGone = true));

    const release = hold(opened);
    const detached = sw.detach({ name: 'web' });
    const attached = sw.apply([endpoint('web', after, '10.44.0.11')]);
    await lab.removeNamespace(before);
    await until(() => isGone, { what: 'the end of the namespace' });
    release();
    await Promise.all([detached, attached]);
    await sw.apply([blue]);
    t.equal(stateOf(sw, 'web'), 'attached');
    t.same(await after.links(), ['eth0']);
    await ping(after, '10.44.0.1');
  },
);

await t.test('what goes without a successor is still noticed', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const { sw } = await openSwitchOf(t, lab);
  const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
  await sw.apply([blue, endpoint('web', web, '10.44.0.11'), endpoint('db', db, '10.44.0.12')]);
  await web.ip('link del eth0');
  await lab.removeNamespace(db);
  await until(() => stateOf(sw, 'web') === 'detached' && stateOf(sw, 'db') === undefined, { what: 'both' });
});
