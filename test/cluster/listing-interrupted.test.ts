/** A listing of a shared store is judged in turns of the event loop: what happens between two of them. */
import t, { type Test } from 'tap';
import { WeftError } from '../../src/error.ts';
import type { Store } from '../../src/store/store.ts';
import { Hooked } from '../support/switch.ts';
import { BLUE, DB, endpointOf, twoHosts, WEB } from './feed-host.ts';

/** In the order of keys, between those of the two hosts. */
const MID = 'endpoints/default/mid';

/**
 * Host a begins to judge a listing and stops in the middle of it, at a write of its own whose answer was lost: what comes
 * before it is judged, what comes after it is not.
 */
async function interrupted(t: Test) {
  const { shared, start, a: before, b } = await twoHosts(t);
  let isStopped = false;
  let goOn = (): void => {};
  const gate = new Promise<void>((resolve) => (goOn = resolve));
  const wrap = (own: Store): Store => {
    const hooked = new Hooked(own);
    hooked.beforeTransact = async ({ delete: deleted = [] }) => {
      if (!deleted.includes(`pending/${MID}`)) return;
      isStopped = true;
      await gate;
    };
    return hooked;
  };
  const a = await start('a', { known: before.directory, wrap });
  a.link.losesAnswer = true;
  await a.set(MID, endpointOf('a', '10.0.0.3'));
  a.link.back();
  const judging = a.settle();
  while (!isStopped) await turns(1);
  const finished = async (): Promise<void> => {
    goOn();
    await judging;
  };
  return { shared, a, b, finished };
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

t.test('what is written meanwhile, here or elsewhere, is neither lost nor undone', async (t) => {
  const { shared, a, b, finished } = await interrupted(t);
  const block = { host: 'a', claimed: {} };
  const later = { ...endpointOf('a', '10.0.0.1'), labels: {} };
  // Those who write records of their own wait for nobody.
  await a.feed.transact({ put: [{ key: 'blocks/blue/1', value: block }] });
  await a.feed.transact({ put: [{ key: WEB, value: later }] });
  await b.set(DB, undefined);
  await b.set(BLUE, { vni: 2 });
  await b.set('endpoints/default/first', endpointOf('b', '10.0.0.4'));
  await b.set('networks/red', { vni: 3 });
  await finished();
  await a.until(() => a.inForce.has('networks/red') && !a.inForce.has(DB), 'what came meanwhile');
  t.same(a.values(), b.values());
  t.same([a.values()['blocks/blue/1'], a.values()[WEB], a.values()[BLUE]], [block, later, { vni: 2 }]);
  const { entries } = await shared.list('');
  t.equal(entries.length, a.inForce.size + 1, 'all that the store has, besides its format');
  t.same([a.report.lost, a.report.signs, a.report.pending], [[], [], []]);
  a.feed.audit();
  await a.until(() => a.report.audit.runs === 1, 'the audit');
  t.equal(a.report.audit.mismatches, 0);
});

t.test('the store is away for a moment, and read once more: it is followed from what was read last', async (t) => {
  const { shared, a, b, finished } = await interrupted(t);
  const { link } = a;
  const { lists } = link;
  // What is read second is read early, and arrives late.
  const second = await shared.list('');
  let arrive = (): void => {};
  const arrived = new Promise<void>((resolve) => (arrive = resolve));
  link.beforeList = async () => {
    link.beforeList = async () => {};
    await arrived;
    return second;
  };
  link.away();
  link.back();
  await finished();
  await b.set('networks/red', { vni: 3 });
  await b.set(DB, undefined);
  await turns(20);
  await a.settle();
  arrive();
  await turns(20);
  await a.settle();
  await a.until(() => a.inForce.has('networks/red') && !a.inForce.has(DB), 'what came meanwhile');
  t.notOk(
    a.log.some((line) => line.startsWith('the store is not what it was')),
    'nothing has gone back',
  );
  t.equal(link.lists, lists + 1);
  t.same(a.values(), b.values());
});

t.test('this host cannot note that its write is done: what was judged before that is in force', async (t) => {
  const { start, a: before, b } = await twoHosts(t);
  let isFull = true;
  const wrap = (own: Store): Store => {
    const hooked = new Hooked(own);
    hooked.beforeTransact = async ({ delete: deleted = [] }) => {
      if (!deleted.includes(`pending/${MID}`) || !isFull) return;
      isFull = false;
      throw new WeftError('system', 'no space left on device');
    };
    return hooked;
  };
  const a = await start('a', { known: before.directory, wrap });
  a.link.losesAnswer = true;
  await a.set(MID, endpointOf('a', '10.0.0.3'));
  await b.set('endpoints/default/first', endpointOf('b', '10.0.0.4'));
  await b.set('networks/red', { vni: 3 });
  a.link.back();
  await a.until(() => a.inForce.has('networks/red') && a.report.pending.length === 0, 'that it is noted later');
  t.notOk(isFull);
  t.same(a.values(), b.values());
  t.ok(a.log.includes('what this host wrote is stored, and that cannot be noted: no space left on device'));
});
