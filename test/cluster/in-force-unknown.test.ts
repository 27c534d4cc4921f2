/** While the store is away, or takes nothing, nobody can say what he has in force: that is told, and no host is blamed. */
import t from 'tap';
import { within } from '../../src/store/within.ts';
import { until } from '../support/process.ts';
import { Switchable } from '../support/switchable.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

const SHORT_MS = 300;
const LONG_MS = 60_000;

t.test('a host that cannot say what it has in force does not lag, as far as that is known', async (t) => {
  const alive = setInterval(() => {}, LONG_MS);
  t.teardown(() => clearInterval(alive));
  const root = await openStore(t);
  const [shared, applied] = [within(root, 'state/'), within(root, 'applied/')];
  const ofA = new Switchable(shared);
  let mustWait: string | undefined;
  const a = await openControlPlane(t, undefined, {
    ...{ host: 'a', shared: ofA, applied, underlay: '192.0.2.1' },
    membership: { isReachable: () => true, mustWait: () => mustWait },
  });
  const b = await openControlPlane(t, undefined, { host: 'b', shared, applied, underlay: '192.0.2.2' });
  await until(() => a.membership.live.find('b') && b.membership.live.find('a'), { what: 'they know each other' });
  let go = (): void => {};
  const stuck = b.cluster.serial.run(() => new Promise<void>((resolve) => (go = resolve)));
  await a.cluster.apply([manifest('Network', 'blue', { subnets: ['10.1.0.0/24'] })]);
  const ofB = async () => (await a.membership.lookInForce())!.hosts.find(({ host }) => host === 'b')!;
  await until(async () => (await ofB()).state === 'lagging', { what: 'b to lag' });
  ofA.away();
  const { behind, ...unknown } = await ofB();
  t.match(unknown, { state: 'unknown', why: 'the store is away' });
  t.equal(behind, undefined);
  ofA.back();
  mustWait = 'the store is that of another cluster';
  t.match(await ofB(), { state: 'unknown', why: 'this host does not use the store' });
  mustWait = undefined;
  ofA.takesNothing = 'no space';
  t.match(await ofB(), { state: 'unknown', why: 'the store takes nothing' });
  await t.rejects(a.membership.inForce.wait(SHORT_MS), { message: /: b cannot say it while the store takes nothing$/ });
  ofA.takesNothing = undefined;
  t.match(await ofB(), { state: 'lagging' });
  go();
  await stuck;
  await until(async () => (await ofB()).state === 'in force', { what: 'b to have it' });
  ofA.away();
  t.match(await ofB(), { state: 'in force', behind: 0 }, 'what was known stays so');
});
