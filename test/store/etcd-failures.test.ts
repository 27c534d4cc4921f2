/** What the store on etcd does when members stop, fall silent or come back with another history. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import type { WeftError } from '../../src/error.ts';
import { isUnanswered, type Store, type WatchEvent } from '../../src/store/store.ts';
import { openStoreOf, type EtcdStoreSettings } from '../support/etcd-store.ts';
import { startEtcd, type Etcd, type EtcdOptions } from '../support/etcd.ts';
import { Follower } from '../support/follower.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';

t.setTimeout(300_000);

async function begin(
  t: Test,
  options: EtcdOptions = {},
  settings: EtcdStoreSettings = {},
): Promise<{ etcd: Etcd; store: Store }> {
  const etcd = await startEtcd(openLab(t), options);
  const store = openStoreOf(etcd, settings);
  t.teardown(() => store.close());
  return { etcd, store };
}

const put = (store: Store, value: unknown, key = 'k'): Promise<number> => store.transact({ put: [{ key, value }] });

await t.test('one member that restarts: calls wait for it, and the watch goes on', async (t) => {
  const { etcd, store } = await begin(t);
  const follower = new Follower(store, '');
  const revisions = [await put(store, 0)];
  await follower.start();
  const [member] = etcd.members;
  const healths: boolean[] = [];
  store.onHealth(({ isReachable }) => healths.push(isReachable));
  for (let n = 1; n <= 3; n++) {
    await member!.kill();
    const waiting = store.get('k');
    await member!.start();
    t.equal((await waiting)?.value, n - 1);
    revisions.push(await put(store, n));
  }
  await until(() => follower.last === revisions[3], { what: 'the last change' });
  t.same(
    follower.told.map(({ revision, value }) => [revision, value]),
    [1, 2, 3].map((n) => [revisions[n], n]),
  );
  t.same([follower.listings.length, follower.faults], [1, []]);
  await until(() => store.health().isReachable, { what: 'health' });
  t.same(healths.slice(-2), [false, true]);
});

await t.test('etcd that is away: calls fail in time, later ones at once, and say why', async (t) => {
  const { etcd, store } = await begin(t, {}, { limits: { callMs: 700 } });
  const [member] = etcd.members;
  await put(store, 1);
  await member!.kill();
  const refused = { code: 'unreachable', message: /^etcd cannot be reached: .*: nothing listens there/ };
  await t.rejects(store.get('k'), refused);
  const error = (await put(store, 2).catch((error: unknown) => error)) as WeftError;
  t.match(error, refused);
  t.notOk(isUnanswered(error), 'it was never sent');
  await until(() => put(store, 2).catch((error: WeftError) => error.code === 'unreachable'), { what: 'a refusal' });
  t.match(store.health(), { isReachable: false, why: /^127.*: nothing listens there/ });
  t.ok(Math.abs(Date.now() - store.health().since!) < 60_000);
  const startedAt = performance.now();
  await t.rejects(store.get('k'), refused);
  t.comment(`refused after ${Math.round(performance.now() - startedAt)} ms`);
  await member!.start();
  await until(() => store.get('k'), { what: 'etcd to be back' });
  t.match(store.health(), { isReachable: true, why: undefined });
});

await t.test('closing waits for nothing that etcd has to do first', async (t) => {
  const { etcd, store } = await begin(t, {}, { limits: { callMs: 200_000 } });
  const lease = await store.grant(60_000);
  await etcd.members[0]!.kill();
  const waiting = [store.get('k'), put(store, 1), store.keepAlive(lease), store.list('')];
  const refused = Promise.all(waiting.map((one) => t.rejects(one.then(() => {}))));
  await store.close();
  await refused;
  await t.rejects(put(store, 2), { code: 'conflict', message: /^etcd at .* is closed$/ });
});

await t.test('a member that falls silent with its connections open is left for another', async (t) => {
  const { etcd, store } = await begin(t, { members: 3 });
  const follower = new Follower(store, '');
  await put(store, 0);
  await follower.start();
  for (let n = 1; n <= etcd.members.length; n++) {
    // Whichever is in use is among them.
    const member = etcd.members[n - 1]!;
    member.pause();
    const revision = await until(() => put(store, n).catch(() => undefined), { what: `write ${n}` });
    await until(() => follower.last >= revision, { what: `change ${n}` });
    member.resume();
    await etcd.leader();
  }
  t.equal(follower.entries.get('k'), 3);
  t.same([follower.listings.length, follower.faults], [1, []]);
});

await t.test('a call that a member leaves without an answer is answered by another', async (t) => {
  // The first one is in use.
  const { etcd, store } = await begin(t, { members: 3 }, { random: () => 0, limits: { callMs: 20_000 } });
  await put(store, 1);
  etcd.members[0]!.pause();
  t.equal((await store.get('k'))?.value, 1);
  etcd.members[0]!.resume();
});

await t.test('a transaction whose answer was lost says so', async (t) => {
  const { etcd, store } = await begin(t, {}, { limits: { callMs: 1500, probeTimeoutMs: 500 } });
  const revision = await put(store, 1);
  const [member] = etcd.members;
  member!.pause();
  const lost = (await store
    .transact({ expect: [{ key: 'k', revision }], put: [{ key: 'k', value: 2 }] })
    .catch((error: unknown) => error)) as WeftError;
  member!.resume();
  t.match(lost, { code: 'unreachable', message: /: the change may have been made, or not$/ });
  t.ok(isUnanswered(lost));
  // Its expectation lets it happen only once.
  const again = await until(
    () =>
      store.transact({ expect: [{ key: 'k', revision }], put: [{ key: 'k', value: 2 }] }).then(
        () => 'made now',
        (error: WeftError) => (error.code === 'conflict' ? 'made before' : undefined),
      ),
    { what: 'an answer' },
  );
  t.comment(again);
  t.equal((await store.get('k'))?.value, 2);
});

await t.test('a minority is no cluster: writes fail, and go on with the majority', async (t) => {
  const { etcd, store } = await begin(t, { members: 3 }, { limits: { callMs: 1500 } });
  await put(store, 1);
  const [first, second] = etcd.members;
  await Promise.all([first!.kill(), second!.kill()]);
  const error = (await until(
    () =>
      put(store, 2).then(
        () => undefined,
        (error: unknown) => error,
      ),
    {
      what: 'a refusal',
    },
  )) as WeftError;
  t.equal(error.code, 'unreachable');
  await until(() => !store.health().isReachable, { what: 'the health' });
  t.match(store.health().why, /no leader|no answer|nothing listens/);
  await first!.start();
  await until(() => put(store, 3).catch(() => undefined), { what: 'the majority' });
});

await t.test('a watch that meets another history ends, so that its follower lists again', async (t) => {
  for (const [what, sameId, later, last] of [
    ['another cluster', false, 0, 'told'],
    ['an older revision', true, 0, 'told'],
    ['an older revision that has passed the last one told', true, 20, 'told'],
    ['one that has passed it, and never had what was deleted last', true, 20, undefined],
  ] as const) {
    const { etcd, store } = await begin(t);
    await put(store, 'saved');
    const snapshot = await etcd.snapshot();
    for (let n = 0; n < 5; n++) await put(store, n, `later${n}`);
    const { revision, history } = await store.list('');
    const events: WatchEvent[] = [];
    store.watch('', revision + 1, (event) => events.push(event));
    if (last) await put(store, last, 'last');
    else await store.transact({ delete: ['later0'] });
    await until(() => events.length === 1, { what: 'the last change' });
    await etcd.restore(later === 0 ? snapshot : await continued(t, snapshot, later), { sameId });
    await until(() => events.length > 1, { what });
    t.same(events.slice(1), [{ kind: 'compacted' }], what);
    const now = await store.list('');
    t.equal(now.history === history, sameId, 'the name of the history');
    t.equal(now.revision < revision, later === 0, 'the revision');
  }
});

/** A snapshot of what becomes of another one elsewhere. */
async function continued(t: Test, snapshot: string, changes: number): Promise<string> {
  const etcd = await startEtcd(openLab(t));
  await etcd.restore(snapshot);
  for (let n = 0; n < changes; n++) await etcd.ctl(['put', 'weft/k', String(n)]);
  return etcd.snapshot();
}

await t.test('a watch of nothing, below a prefix without entries, notices another history too', async (t) => {
  const { etcd, store } = await begin(t);
  const snapshot = await etcd.snapshot();
  for (let n = 0; n < 5; n++) await etcd.ctl(['put', 'others', String(n)]);
  const { revision } = await store.list('');
  const events: WatchEvent[] = [];
  store.watch('', revision + 1, (event) => events.push(event));
  await etcd.restore(snapshot, { sameId: true });
  await until(() => events.length > 0, { what: 'the end of the watch' });
  t.same(events, [{ kind: 'compacted' }]);
});

await t.test('an etcd that was emptied', async (t) => {
  const { etcd, store } = await begin(t);
  const follower = new Follower(store, '');
  await put(store, 1);
  await follower.start();
  await etcd.wipe();
  await until(() => follower.listings.length === 2, { what: 'a new list' });
  t.same([...follower.entries], []);
  const revision = await put(store, 2);
  await until(() => follower.last === revision, { what: 'the watch' });
});

await t.test('compacted while away: the follower lists again, and sees what was deleted', async (t) => {
  const { etcd, store } = await begin(t, { members: 3 });
  const other = openStoreOf(etcd);
  t.teardown(() => other.close());
  await put(store, 1, 'kept');
  await put(store, 1, 'deleted');
  const { revision } = await store.list('');
  await other.transact({ delete: ['deleted'] });
  await put(other, 2, 'kept');
  await etcd.compact();
  const events: WatchEvent[] = [];
  store.watch('', revision + 1, (event) => events.push(event));
  await until(() => events.length > 0, { what: 'an event' });
  t.same(events, [{ kind: 'compacted' }]);
  await t.rejects(store.list('', revision), { code: 'not_found' });
});

await t.test('leases survive the loss of a leader, and end without their holder', async (t) => {
  const { etcd, store } = await begin(t, { members: 3 });
  const [kept, left] = [await store.grant(5000), await store.grant(5000)];
  await store.transact({ put: [{ key: 'kept', value: 1, lease: kept }] });
  await store.transact({ put: [{ key: 'left', value: 1, lease: left }] });
  t.equal((await store.get('kept'))?.lease, kept);
  const leader = await etcd.leader();
  await leader.kill();
  await until(() => store.keepAlive(kept).then(() => true), { what: 'the lease to be renewed' });
  await leader.start();
  await until(
    async () => {
      await store.keepAlive(kept);
      return (await store.get('left')) === undefined;
    },
    { what: 'the other one to end' },
  );
  t.ok(await store.get('kept'));
  await t.rejects(store.keepAlive(left), { code: 'not_found', message: `lease ${left} has ended` });
});

await t.test('a token that is no longer valid is renewed', async (t) => {
  const users = { root: 'r', weft: 'w' };
  const lab = openLab(t);
  const etcd = await startEtcd(lab, { users });
  const passwordFile = `${lab.directory}/password`;
  writeFileSync(passwordFile, 'w\n');
  const probeMs = 600_000;
  const store = openStoreOf(etcd, { user: { name: 'weft', passwordFile }, limits: { probeMs } });
  t.teardown(() => store.close());
  const follower = new Follower(store, '');
  await put(store, 0);
  await follower.start();
  // All tokens are invalid then, as if they had expired.
  await etcd.ctl(['auth', 'disable']);
  await etcd.ctl(['auth', 'enable']);
  const revision = await put(store, 1);
  await until(() => follower.last === revision, { what: 'the change' });
  await etcd.members[0]!.kill();
  await etcd.members[0]!.start();
  const last = await put(store, 2);
  await until(() => follower.last === last, { what: 'the change after the restart' });
  t.same(follower.faults, []);
});

await t.test('tokens that expire (JWT) are renewed as often as it takes', async (t) => {
  const lab = openLab(t);
  const [secret, open] = [`${lab.directory}/jwt.key`, `${lab.directory}/jwt.pub`];
  execFileSync('openssl', ['genrsa', '-out', secret, '2048'], { stdio: 'pipe' });
  execFileSync('openssl', ['rsa', '-in', secret, '-pubout', '-out', open], { stdio: 'pipe' });
  const token = `jwt,pub-key=${open},priv-key=${secret},sign-method=RS256,ttl=1s`;
  const etcd = await startEtcd(lab, {
    members: 3,
    users: { root: 'r', weft: 'w' },
    options: [`--auth-token=${token}`],
  });
  const passwordFile = `${lab.directory}/password`;
  writeFileSync(passwordFile, 'w\n');
  /** How many tokens were given out. */
  const given = async (): Promise<number> => {
    const texts = await Promise.all(
      etcd.members.map(async ({ clientAddress }) => (await fetch(`http://${clientAddress}/metrics`)).text()),
    );
    const counts = texts.flatMap((text) => [
      ...text.matchAll(/grpc_server_handled_total\{grpc_code="OK",grpc_method="Authenticate",.*\} (\d+)/g),
    ]);
    return counts.reduce((sum, [, count]) => sum + Number(count), 0);
  };
  for (const probeMs of [200, 600_000]) {
    const store = openStoreOf(etcd, { user: { name: 'weft', passwordFile }, limits: { probeMs } });
    const health: boolean[] = [];
    store.onHealth(({ isReachable }) => health.push(isReachable));
    const prefix = `${probeMs}/`;
    const followers = [new Follower(store, prefix)];
    let revision = await store.transact({ put: [{ key: `${prefix}0`, value: 0 }] });
    await followers[0]!.start();
    const lease = await store.grant(60_000);
    const before = await given();
    for (let n = 1; (await given()) < before + 3; n++) {
      revision = await store.transact({ put: [{ key: `${prefix}${n}`, value: n }] });
      await store.keepAlive(lease);
      const follower = new Follower(store, prefix);
      await follower.start();
      followers.push(follower);
      await until(() => followers.every(({ last }) => last >= revision), { what: 'all watches have the change' });
      if (followers.length > 8) followers.splice(1, 1)[0]!.end();
    }
    for (const follower of followers) {
      t.same(follower.faults, []);
      t.equal(follower.listings.length, 1, 'its watch goes on');
      follower.end();
    }
    t.same(health, [true], 'the store was never away');
    await store.close();
  }
});

await t.test('calls that are made while a token is renewed do not fail', async (t) => {
  const lab = openLab(t);
  const etcd = await startEtcd(lab, { users: { root: 'r', weft: 'w' } });
  const passwordFile = `${lab.directory}/password`;
  writeFileSync(passwordFile, 'w\n');
  const store = openStoreOf(etcd, { user: { name: 'weft', passwordFile }, limits: { probeMs: 600_000 } });
  t.teardown(() => store.close());
  await put(store, 0);
  let isDone = false;
  let count = 0;
  const caller = async (): Promise<void> => {
    for (; !isDone; count++) await store.get('k');
  };
  const callers = Array.from({ length: 16 }, caller);
  for (let time = 0; time < 3; time++) {
    await etcd.ctl(['auth', 'disable']);
    // A session that was opened now has no token, and needs one soon.
    if (time === 2) await etcd.members[0]!.kill();
    if (time === 2) await etcd.members[0]!.start();
    const before = count;
    await until(() => count > before + 16, { what: 'calls without users' });
    await etcd.ctl(['auth', 'enable']);
    const after = count;
    await until(() => count > after + 16, { what: 'calls with users' });
  }
  isDone = true;
  await Promise.all(callers);
  t.comment(`${count} calls`);
});
