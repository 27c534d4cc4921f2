/** What one host deletes while another begins to use it: one of the two is refused. */
import t, { type Test } from 'tap';
import { endpointKind } from '../../src/model/kinds/endpoint.ts';
import { namespaceKind } from '../../src/model/kinds/namespace.ts';
import { WeftError } from '../../src/error.ts';
import { networkKind } from '../../src/model/kinds/network.ts';
import { until } from '../support/process.ts';
import { Random } from '../support/random.ts';
import { Hooked } from '../support/switch.ts';
import { Switchable } from '../support/switchable.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

const blue = manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] });
const shop = manifest('Namespace', 'shop', {});
/** Not a network namespace: no interface is created. */
const web = manifest('Endpoint', 'web', { network: 'blue', netns: '/proc/self/ns/uts' }, { namespace: 'shop' });
const ROUNDS = 40;

async function lab(t: Test) {
  const shared = await openStore(t);
  const a = await openControlPlane(t, undefined, { host: 'a', shared });
  const b = await openControlPlane(t, undefined, { host: 'b', shared });
  return { shared, a, b };
}

const turns = async (count: number): Promise<void> => {
  for (let n = 0; n < count; n++) await new Promise(setImmediate);
};

type Step = (after: Promise<unknown>) => Promise<unknown>;

/** Both at about the same time; in the first two rounds, so that each happens first once, one after the other. */
function bothAtOnce(round: number, attach: Step, remove: Step, random: Random): [Promise<unknown>, Promise<unknown>] {
  const ended = (step: Promise<unknown>): Promise<unknown> => step.catch(() => {});
  if (round === 0) {
    const attached = attach(Promise.resolve());
    return [attached, remove(ended(attached))];
  }
  if (round === 1) {
    const removed = remove(Promise.resolve());
    return [attach(ended(removed)), removed];
  }
  return [attach(turns(random.int(30))), remove(turns(random.int(300)))];
}

t.test('of a host that deletes a network or a namespace and one that attaches to it, one is refused', async (t) => {
  const { shared, a, b } = await lab(t);
  const random = new Random(1);
  const refused = { attach: 0, delete: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    await a.cluster.apply([blue, shop]);
    await b.cluster.serial.run(() => b.cluster.enforce());
    const kind = random.pick([networkKind, namespaceKind]);
    const attach = (after: Promise<unknown>) => after.then(() => a.cluster.apply([web]));
    const remove = (after: Promise<unknown>) =>
      after.then(() => b.cluster.delete(kind, { name: kind === networkKind ? 'blue' : 'shop' }));
    const [attached, deleted] = await Promise.allSettled(bothAtOnce(round, attach, remove, random));
    const [isAttached, isDeleted] = [attached.status === 'fulfilled', deleted.status === 'fulfilled'];
    t.not(isAttached, isDeleted, `round ${round}: ${isAttached ? 'both' : 'neither'}`);
    if (!isAttached) {
      refused.attach++;
      t.match((attached as PromiseRejectedResult).reason, { message: /does not exist|is being deleted by host "b"/ });
    }
    if (!isDeleted) {
      refused.delete++;
      t.match((deleted as PromiseRejectedResult).reason, { code: 'conflict', message: /has endpoints \(shop\/web\)/ });
    }
    for (const key of ['networks/blue', 'namespaces/shop']) {
      t.notMatch((await shared.get(key))?.value ?? {}, { deletedBy: String }, 'no mark is left');
    }
    if (isAttached) await a.cluster.delete(endpointKind, { name: 'web', namespace: 'shop' });
  }
  t.comment(JSON.stringify(refused));
  t.ok(refused.attach > 0 && refused.delete > 0, 'both happen');
});

t.test('a host that ended while it was deleting something takes its mark off', async (t) => {
  const { shared, a, b } = await lab(t);
  await a.cluster.apply([blue, shop]);
  await b.cluster.serial.run(() => b.cluster.enforce());
  const { value } = (await shared.get('networks/blue'))!;
  await b.write({ 'networks/blue': { ...(value as object), deletedBy: 'a' } });
  await t.rejects(b.cluster.apply([web]), {
    code: 'conflict',
    message: 'network "blue" is being deleted by host "a": apply it again to keep it',
  });
  await a.close();
  await openControlPlane(t, a.directory, { host: 'a', shared });
  t.strictSame((await shared.get('networks/blue'))!.value, value);
  t.match(await b.cluster.apply([web]), [{ action: 'created' }]);
});

t.test('a host that lost the store while it was deleting something takes its mark off when that is back', async (t) => {
  const shared = new Switchable(await openStore(t));
  const a = await openControlPlane(t, undefined, { host: 'a', shared });
  await a.cluster.apply([blue, shop]);
  const { value } = (await shared.get('networks/blue'))!;
  shared.losesAnswer = true;
  await t.rejects(a.cluster.delete(networkKind, { name: 'blue' }), { code: 'unreachable' });
  shared.back();
  t.match((await shared.get('networks/blue'))!.value, { deletedBy: 'a' }, 'the mark was made');
  await until(
    () =>
      a.cluster.serial
        .run(() => a.cluster.enforce())
        .then(async () => {
          const now = (await shared.get('networks/blue'))!.value;
          return !('deletedBy' in Object(now)) && now;
        }),
    { what: 'it is taken off' },
  );
  t.strictSame((await shared.get('networks/blue'))!.value, value);
  t.match(await a.cluster.apply([web]), [{ action: 'created' }]);
});

t.test('applying it again keeps it, and deleting it goes on with what another host has begun', async (t) => {
  const { shared, b } = await lab(t);
  await b.cluster.apply([blue, shop]);
  const { value } = (await shared.get('networks/blue'))!;
  const mark = () => b.write({ 'networks/blue': { ...(value as object), deletedBy: 'lost' } });
  await mark();
  t.match(await b.cluster.apply([blue]), [{ action: 'configured' }]);
  t.strictSame((await shared.get('networks/blue'))!.value, value);
  await mark();
  await b.cluster.delete(networkKind, { name: 'blue' });
  t.equal(await shared.get('networks/blue'), undefined);
});

t.test('a network that is used stays without a mark', async (t) => {
  const { shared, a } = await lab(t);
  await a.cluster.apply([blue, shop, web]);
  const before = await shared.get('networks/blue');
  await t.rejects(a.cluster.delete(networkKind, { name: 'blue' }), { message: /has endpoints/ });
  t.strictSame(await shared.get('networks/blue'), before);
});

t.test('what another host applies again while it is deleted stays', async (t) => {
  const store = await openStore(t);
  const shared = new Hooked(store);
  const a = await openControlPlane(t, undefined, { host: 'a', shared });
  const b = await openControlPlane(t, undefined, { host: 'b', shared: store });
  await a.cluster.apply([blue]);
  const { value } = (await store.get('networks/blue'))!;
  shared.beforeTransact = async ({ delete: deleted = [] }) => {
    if (!deleted.includes('networks/blue')) return;
    shared.beforeTransact = async () => {};
    t.match(await b.cluster.apply([blue]), [{ action: 'configured' }]);
  };
  await t.rejects(a.cluster.delete(networkKind, { name: 'blue' }), {
    code: 'conflict',
    message: 'network "blue" was applied again while it was being deleted: it stays',
  });
  t.strictSame((await store.get('networks/blue'))?.value, value);
  await a.cluster.delete(networkKind, { name: 'blue' });
  t.equal(await store.get('networks/blue'), undefined, 'until it is deleted once more');
});

t.test('what the store has lost is there as a whole if it cannot be deleted after all', async (t) => {
  const shared = await openStore(t);
  const [toA, toB] = [new Switchable(shared), new Switchable(shared)];
  const a = await openControlPlane(t, undefined, { host: 'a', shared: toA });
  const b = await openControlPlane(t, undefined, { host: 'b', shared: toB });
  const { entries } = await shared.list('');
  await a.cluster.apply([blue]);
  await until(() => b.networks.find('blue'), { what: 'b to know it' });
  const { value } = (await shared.get('networks/blue'))!;
  const old = await openStore(t);
  await old.transact({ put: entries.map(({ key, value: before }) => ({ key, value: before })) });
  for (const link of [toA, toB]) link.away();
  for (const link of [toA, toB]) link.back(old);
  const isHeld = ({ feed }: Pick<typeof a, 'feed'>) =>
    feed.report()!.held.some(({ name }) => name === 'network "blue"');
  for (const host of [a, b]) await until(() => isHeld(host), { what: 'it to be held' });

  let writes = 0;
  toA.beforeCall = async (call) => {
    if (call === 'transact' && ++writes === 2) throw new WeftError('system', 'not now');
  };
  await t.rejects(a.cluster.delete(networkKind, { name: 'blue' }), { message: 'not now' });
  t.same((await old.get('networks/blue'))?.value, value, 'as it was');
  for (const host of [a, b]) {
    const { cluster, networks } = host;
    await until(() => cluster.serial.run(async () => (await cluster.enforce(), !isHeld(host))), {
      what: 'it to be in force as the store has it',
    });
    t.equal(networks.find('blue')?.vni, (value as { vni: number }).vni);
    t.same(cluster.refused.report(), []);
  }
  await a.cluster.delete(networkKind, { name: 'blue' });
  await until(() => !b.networks.find('blue'), { what: 'its end on both' });
});
