/** An endpoint that the store has although the answer was lost, and whoever attached it was told of a failure. */
import t, { type Test } from 'tap';
import { endpointKind } from '../../src/model/kinds/endpoint.ts';
import { unansweredError, type Store } from '../../src/store/store.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { Switchable } from '../support/switchable.ts';
import { manifest, openControlPlane, openStore, type ControlPlaneOptions } from './control-plane.ts';

/** The container of `web` is there, and the store, whose answer was lost, is away. */
async function lab(t: Test, options: ControlPlaneOptions = {}) {
  const namespaces = openLab(t);
  const inside = await namespaces.namespace('c');
  const store = await openStore(t);
  const link = new Switchable(store);
  const host = await openControlPlane(t, undefined, { ...options, host: 'left', shared: link });
  await host.cluster.apply([manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] })]);
  link.losesAnswer = true;
  const web = manifest('Endpoint', 'web', { network: 'blue', netns: inside.path });
  // The first of its network needs a block, which only the store gives.
  await t.rejects(host.cluster.applyOrTakeBack(web), { code: 'unreachable' });
  t.ok(await store.get('endpoints/default/web'), 'it was stored');
  // Whoever wanted it takes back what has failed.
  await t.rejects(host.cluster.delete(endpointKind, { name: 'web' }), { code: 'not_found' });
  return { host, inside, link, namespaces, store };
}

type Host = Pick<Awaited<ReturnType<typeof openControlPlane>>, 'cluster' | 'endpoints'>;

/** Looks after the endpoints once a second, in fewer milliseconds. */
const isReleased =
  ({ cluster, endpoints }: Host, store: Store) =>
  async (): Promise<boolean> => {
    await cluster.serial.run(() => endpoints.renew());
    return (await store.get('endpoints/default/web')) === undefined && endpoints.find('web') === undefined;
  };

t.test('it is released when its container is gone by the time the store is back', { skip: needsRoot }, async (t) => {
  const { host, inside, link, namespaces, store } = await lab(t);
  await namespaces.removeNamespace(inside);
  link.back();
  await until(isReleased(host, store), { what: 'nobody has it' });
});

t.test('it is not attached to what has the number of its namespace by now', { skip: needsRoot }, async (t) => {
  let cookie = 1n;
  const { host, link, store } = await lab(t, { cookie: () => cookie });
  cookie = 2n;
  link.back();
  await until(isReleased(host, store), { what: 'nobody has it' });
});

t.test('nothing is left of one that was never stored', { skip: needsRoot }, async (t) => {
  const inside = await openLab(t).namespace('c');
  const store = await openStore(t);
  const link = new Switchable(store);
  const host = await openControlPlane(t, undefined, { host: 'left', shared: link });
  await host.cluster.apply([manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] })]);
  link.beforeCall = async (call) => {
    if (call !== 'transact') return;
    link.beforeCall = async () => {};
    link.away();
    throw unansweredError('the connection was reset');
  };
  const web = manifest('Endpoint', 'web', { network: 'blue', netns: inside.path });
  await t.rejects(host.cluster.applyOrTakeBack(web), { code: 'unreachable' });
  const record = () => host.endpoints.kept(['web']).get('web');
  const renew = () => host.cluster.serial.run(() => host.endpoints.renew());
  for (let n = 0; n < 3; n++) await renew();
  t.ok(record(), 'the store may have it');
  link.back();
  await until(() => host.feed.report()!.reachable, { what: 'the store to be back' });
  await until(async () => (await renew(), record() === undefined), { what: 'it to be forgotten' });
});

t.test('it is attached if its container is there', { skip: needsRoot }, async (t) => {
  const { host, link } = await lab(t, { cookie: () => 1n });
  link.back();
  await until(() => host.endpoints.find('web')?.local, { what: 'it is known where it is' });
});

t.test('so it is if its host is started again before the store is back', { skip: needsRoot }, async (t) => {
  const { host, inside, link, namespaces, store } = await lab(t);
  await host.close();
  const next = await openControlPlane(t, host.directory, { host: 'left', shared: link });
  await next.endpoints.started(() => false);
  await namespaces.removeNamespace(inside);
  link.back();
  await until(isReleased(next, store), { what: 'nobody has it' });
});
