/** How hosts come to be hosts of a shared store, and who is refused. Time is the test's. */
import t, { type Test } from 'tap';
import { within } from '../../src/store/within.ts';
import { Membership, type MembershipEnvironment } from '../../src/cluster/membership/membership.ts';
import { LEASE_MS } from '../../src/cluster/membership/presence.ts';
import { WeftError } from '../../src/error.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import type { Store } from '../../src/store/store.ts';
import { Hooked } from '../support/switch.ts';
import { openStore } from './control-plane.ts';

/** Runs what is due when the test says so. */
class Time {
  nowMs = 0;
  readonly #due = new Set<{ readonly atMs: number; readonly work: () => void }>();
  #asked = 0;

  readonly after = (delayMs: number, work: () => void): (() => void) => {
    const one = { atMs: this.nowMs + delayMs, work };
    this.#due.add(one);
    return () => void this.#due.delete(one);
  };

  /** In steps of a second, and lets everything happen that follows from each. */
  async pass(milliseconds: number): Promise<void> {
    for (const endMs = this.nowMs + milliseconds; this.nowMs < endMs; ) {
      this.nowMs = Math.min(endMs, this.nowMs + 1000);
      for (const one of [...this.#due].filter(({ atMs }) => atMs <= this.nowMs)) {
        this.#due.delete(one);
        one.work();
      }
      await this.settle();
    }
  }

  /** Resolves when no store has anything to do any more. */
  async settle(): Promise<void> {
    for (let idle = 0; idle < 5; idle = this.#asked === 0 ? idle + 1 : 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Counts what the store is asked until it answers. */
  counting(store: Store): Store {
    return new Proxy(store, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== 'function') return value;
        return (...given: unknown[]): unknown => {
          const result: unknown = Reflect.apply(value, target, given);
          if (result instanceof Promise) {
            this.#asked++;
            const answered = (): void => void this.#asked--;
            result.then(answered, answered);
          }
          return result;
        };
      },
    });
  }
}

/** Of another boot or machine than the other daemons, so that nobody here can see whether these run. */
const UNSEEN: Partial<MembershipEnvironment> = {
  process: { bootId: 'b', pidNamespace: 'pid:[1]', pid: 1, startTicks: '1', stateDirectory: '8/aa01' },
  isRunning: () => undefined,
};

async function lab(t: Test) {
  const time = new Time();
  const embedded = await openEmbeddedStore({
    directory: t.testdir(),
    onWarning: (message) => t.fail(message),
    after: time.after,
  });
  t.teardown(() => embedded.close());
  const shared = new Hooked(time.counting(embedded));
  const store = within(shared, 'state/');

  /** A daemon on a host. @param own its state directory */
  const daemon = async (
    host: string,
    underlay: string,
    id: string,
    own: Store,
    more: Partial<MembershipEnvironment> = {},
  ) => {
    const told: (string | undefined)[] = [];
    let hostId: Uint8Array | undefined;
    const membership = new Membership({
      shared: { store, applied: within(shared, 'applied/') },
      own,
      hosts: () => ({ registered: () => [], isTaken: false }),
      host,
      id: id.padEnd(32, '0'),
      version: '1.0.0',
      process: { bootId: 'a', pidNamespace: 'pid:[1]', pid: 1, startTicks: '1', stateDirectory: `8/${id}` },
      state: '/var/lib/weft',
      underlay: () => underlay,
      mtu: async () => 1500,
      mustWait: () => undefined,
      isStored: () => true,
      isReachable: () => undefined,
      unreachableMs: () => undefined,
      isRunning: () => true,
      randomHostId: () => Uint8Array.of(1, 2, 3),
      setHostId: (bytes) => void (hostId = bytes),
      settled: async () => {},
      kept: async () => {},
      clock: () => time.nowMs,
      wallClock: () => Date.UTC(2026, 0, 1) + time.nowMs,
      after: time.after,
      onChange: ({ state, why }) => told.push(why ?? state),
      ...more,
    });
    t.teardown(() => membership.close({ retain: true }));
    const started = membership.start().then(
      () => undefined,
      (error: WeftError) => error.message,
    );
    await time.settle();
    return { membership, started, told, hostId: () => hostId };
  };
  const keys = async (): Promise<string[]> => (await store.list('')).entries.map(({ key }) => key);
  return { time, shared, store, daemon, keys, own: async () => time.counting(await openStore(t)) };
}

t.test('a host registers itself with all that it claims, in one transaction', async (t) => {
  const { store, shared, daemon, keys, own } = await lab(t);
  const revisions = new Set<number>();
  const { started, membership } = await daemon('left', '192.0.2.1', 'aa01', await own());
  t.equal(await started, undefined);
  t.same(membership.report, { state: 'registered' });
  t.same(await keys(), [
    'host-claims/id/aa010000000000000000000000000000',
    'host-claims/mac/aa0100',
    'host-claims/underlay/192.0.2.1',
    'hosts/left',
    'live/left',
  ]);
  for (const { revision } of (await store.list('')).entries) revisions.add(revision);
  t.equal(revisions.size, 1);
  t.match((await store.get('hosts/left'))?.value, {
    host: 'left',
    id: /^aa01/,
    mac: 'aa0100',
    since: '2026-01-01T00:00:00.000Z',
    resource: { kind: 'Host', metadata: { name: 'left' }, spec: { underlay: '192.0.2.1' } },
  });
  t.match(await shared.get('state/live/left'), { lease: String, value: { host: 'left', version: '1.0.0', mtu: 1500 } });
  t.equal(await (await daemon('right', '192.0.2.2', 'bb01', await own())).started, undefined);
});

t.test('two hosts share neither name nor id nor address: the second one is told who has it', async (t) => {
  const { daemon, own, keys } = await lab(t);
  await daemon('left', '192.0.2.1', 'aa01', await own());
  const before = await keys();
  const who = 'id aa010000, underlay 192.0.2.1, registered since 2026-01-01T00:00:00.000Z';
  const refused = async (...host: [string, string, string]): Promise<string | undefined> => {
    const { started, told } = await daemon(...host, await own());
    t.same(told, [], 'it does not go on, so nothing else tells of it');
    return started;
  };
  t.equal(
    await refused('left', '192.0.2.2', 'bb01'),
    `the name "left" belongs to another host (${who}), which runs since 2026-01-01T00:00:00.000Z: choose another name with --host; if that was this host before it was installed again, \`weft delete host left\` on another host first`,
  );
  t.equal(
    await refused('right', '192.0.2.2', 'aa01'),
    `this host has the id of host "left" (${who}): the state directory /var/lib/weft is a copy of that host's, so start this one with an empty directory; if it is that host with another name, \`weft delete host left\` on another host first, or, if there is none, \`weft up --host left\` once more and \`weft down --purge\`, which removes its endpoints`,
  );
  t.equal(
    await refused('right', '192.0.2.1', 'bb01'),
    `underlay 192.0.2.1 belongs to host "left" (${who}): give this host another address with --underlay; if host "left" does not exist any more, \`weft delete host left\` on another host first`,
  );
  t.same(await keys(), before, 'nothing of theirs is left');
});

for (const count of [2, 16])
  t.test(`${count} reasons that alternate are each told once, until the state changes`, async (t) => {
    const { time, daemon, own } = await lab(t);
    const whys = Array.from({ length: count }, (_, n) => `no answer of member ${n}`);
    let [asked, isWaiting] = [0, true];
    const mustWait = (): string | undefined => (isWaiting ? whys[asked++ % count] : undefined);
    const { membership, told } = await daemon('left', '192.0.2.1', 'aa01', await own(), { mustWait });
    await time.pass(count * 5000);
    t.ok(asked > 2 * count);
    t.same(told, whys);
    t.equal(membership.report?.why, whys[(asked - 1) % count], 'the one that holds now is told to who asks');
    isWaiting = false;
    await time.pass(5000);
    t.same(told, [...whys, 'registered']);
    isWaiting = true;
    await time.pass(count * 10_000);
    t.same([told.length, new Set(told.slice(count + 1))], [2 * count + 1, new Set(whys)], 'anew, each once');
  });

t.test('bits of a MAC that are taken are exchanged for others, which the host keeps', async (t) => {
  const { daemon, own, store } = await lab(t);
  await daemon('left', '192.0.2.1', 'aaaaaa01', await own());
  const directory = await own();
  const first = await daemon('right', '192.0.2.2', 'aaaaaa02', directory);
  t.equal(await first.started, undefined);
  t.same(first.hostId(), Buffer.from([1, 2, 3]));
  t.match((await store.get('hosts/right'))?.value, { mac: '010203' });
  await first.membership.close();
  const second = await daemon('right', '192.0.2.2', 'aaaaaa02', directory);
  t.equal(await second.started, undefined);
  t.same(second.hostId(), Buffer.from([1, 2, 3]), 'also when it starts again');
});

t.test('a daemon that starts again is no clash, and a copy of its state directory is one', async (t) => {
  const { daemon, own } = await lab(t);
  const directory = await own();
  await daemon('left', '192.0.2.1', 'aa01', directory);
  const restarted = await daemon('left', '192.0.2.1', 'aa01', directory, { isRunning: () => false });
  t.equal(await restarted.started, undefined, 'the process before is gone, its record is not');
  const successor = await daemon('left', '192.0.2.1', 'aa01', directory);
  t.equal(await successor.started, undefined, 'it takes over a state directory from a daemon that runs');
  const copy = { bootId: 'a', pidNamespace: 'pid:[1]', pid: 2, startTicks: '2', stateDirectory: '8/copy' };
  t.match(
    await (await daemon('left', '192.0.2.7', 'aa01', await own(), { process: copy })).started,
    /^host "left" \(.*\) runs already, since .*, as process 1 of this machine: the state directory .* is a copy/,
  );
});

t.test('a host that was rebooted waits until the record of the boot before goes', async (t) => {
  const { daemon, own, time, store } = await lab(t);
  const directory = await own();
  const before = await daemon('left', '192.0.2.1', 'aa01', directory);
  await before.membership.close({ retain: true });
  const rebooted = await daemon('left', '192.0.2.1', 'aa01', directory, UNSEEN);
  t.match(rebooted.told, [/^host "left" .* waiting whether that was this host before its reboot$/]);
  await time.pass(1000);
  t.equal(await rebooted.started, undefined, 'it starts meanwhile');
  t.match(rebooted.membership.whyBarred, /waiting whether/, 'and writes nothing');
  await time.pass(LEASE_MS + 2000);
  t.same(rebooted.membership.report, { state: 'registered' });
  t.equal(rebooted.membership.whyBarred, undefined);
  t.ok(await store.get('live/left'));
});

t.test('a host that was cut off writes nothing if another one has taken its place meanwhile', async (t) => {
  const { daemon, own, store } = await lab(t);
  let isRunning: boolean | undefined = true;
  const { membership } = await daemon('left', '192.0.2.1', 'aa01', await own(), { isRunning: () => isRunning });
  const { value } = (await store.get('live/left'))!;
  const process = { bootId: 'b', pidNamespace: 'pid:[1]', pid: 1, startTicks: '1', stateDirectory: '8/copy' };
  const see = (live: object): void =>
    membership.live.see([{ key: 'live/left', entry: { key: 'live/left', value: live, revision: 9, lease: 'l' } }]);
  see(value as object);
  t.equal(membership.whyBarred, undefined, 'this daemon');
  isRunning = undefined;
  see({ ...(value as object), process });
  t.same(membership.report, { state: 'registered' }, 'it has not tried to register again');
  t.match(membership.whyBarred, /^host "left" runs elsewhere since 20/);
  isRunning = false;
  t.equal(membership.whyBarred, undefined, 'one that has ended');
});

t.test(
  'a host whose name was given to another one while it was cut off writes nothing, also if that is down',
  async (t) => {
    const { daemon, own } = await lab(t);
    let isTaken = false;
    const hosts = () => ({ registered: () => [], isTaken });
    const { membership } = await daemon('left', '192.0.2.1', 'aa01', await own(), { hosts });
    t.same([membership.report, membership.whyBarred], [{ state: 'registered' }, undefined]);
    isTaken = true;
    t.same(membership.report, { state: 'registered' }, 'it has not tried to register again');
    t.match(membership.whyBarred, /^the name "left" belongs to another host by now/);
  },
);

t.test('a record of the boot before that is part of a dump, without a lease, is nobody’s', async (t) => {
  const { daemon, own, store } = await lab(t);
  const directory = await own();
  const before = await daemon('left', '192.0.2.1', 'aa01', directory);
  await before.membership.close({ retain: true });
  await store.transact({ put: [{ key: 'live/left', value: (await store.get('live/left'))!.value }] });
  const rebooted = await daemon('left', '192.0.2.1', 'aa01', directory, UNSEEN);
  t.same(rebooted.told, ['registered']);
  t.ok((await store.get('live/left'))!.lease);
});

t.test('if that record stays, another machine has a copy of the state directory', async (t) => {
  const { daemon, own, time, store } = await lab(t);
  await daemon('left', '192.0.2.1', 'aa01', await own());
  const copy = await daemon('left', '192.0.2.2', 'aa01', await own(), UNSEEN);
  await time.pass(3 * LEASE_MS);
  t.match(copy.membership.report, { state: 'refused', why: /runs already, since .*, on another machine/ });
  t.ok(copy.membership.isDecided, 'that is known, too');
  t.equal(copy.membership.whyBarred, copy.membership.report?.why, 'it writes nothing');
  t.equal(copy.told.at(-1), copy.membership.report?.why, 'it goes on, and this is told');
  t.match((await store.get('hosts/left'))?.value, { resource: { spec: { underlay: '192.0.2.1' } } });
});

t.test('a host whose address changes gives the old one back', async (t) => {
  const { daemon, own, keys, time } = await lab(t);
  let underlay = '192.0.2.1';
  const { membership } = await daemon('left', underlay, 'aa01', await own(), { underlay: () => underlay });
  underlay = '192.0.2.9';
  membership.moved();
  await time.settle();
  t.same(membership.report, { state: 'registered' });
  t.same(
    (await keys()).filter((key) => key.includes('underlay')),
    ['host-claims/underlay/192.0.2.9'],
  );
});

t.test('a record that somebody has damaged is written again, and is no reason to wait', async (t) => {
  const { daemon, own, store } = await lab(t);
  const state = await own();
  const start = async (): Promise<unknown> => (await daemon('left', '192.0.2.1', 'aa01', state)).membership.report;
  await start();
  const registered = (await store.get('hosts/left'))!.value as { readonly resource: object };
  for (const resource of ['garbage', null, {}, { spec: { underlay: 5 } }, { ...registered.resource, metadata: [] }]) {
    await store.transact({ put: [{ key: 'hosts/left', value: { ...registered, resource } }] });
    t.same(await start(), { state: 'registered' });
    t.same((await store.get('hosts/left'))?.value, registered);
  }
  await store.transact({ put: [{ key: 'hosts/left', value: { ...registered, resource: 'garbage' } }] });
  t.match(
    await (await daemon('right', '192.0.2.2', 'aa01', await own())).started,
    /^this host has the id of host "left" \(id aa010000, underlay unknown, registered since/,
    'who has the same is told by what can be read',
  );
});

t.test('a host that starts while the store is away registers when it is back', async (t) => {
  const { daemon, own, time, shared, store } = await lab(t);
  shared.writesLeft = 0;
  const { membership, started } = await daemon('left', '192.0.2.1', 'aa01', await own());
  t.equal(await started, undefined, 'it starts');
  t.match(membership.report, { state: 'waiting', why: String });
  t.notOk(membership.isDecided);
  shared.writesLeft = Infinity;
  await time.pass(2000);
  t.same(membership.report, { state: 'registered' });
  t.ok(membership.isDecided);
  t.ok(await store.get('live/left'));
});

t.test('a host that was registered when the store went away says so', async (t) => {
  const { daemon, own, time, shared } = await lab(t);
  const { membership } = await daemon('left', '192.0.2.1', 'aa01', await own());
  const { health, keepAlive } = shared;
  const away = new WeftError('unreachable', 'etcd cannot be reached: no answer');
  Object.assign(shared, { health: () => ({ isReachable: false }), keepAlive: () => Promise.reject(away) });
  await time.pass(LEASE_MS);
  t.same(membership.report, {
    state: 'waiting',
    why: `registered until the store went away, and again when it is back: ${away.message}`,
  });
  Object.assign(shared, { health, keepAlive });
  await time.pass(2000);
  t.same(membership.report, { state: 'registered' });
});

t.test('what a host has under its lease comes back when the lease has ended', async (t) => {
  const { daemon, own, time, shared, store } = await lab(t);
  const { membership, told } = await daemon('left', '192.0.2.1', 'aa01', await own());
  membership.reached(7, 7);
  await time.pass(1000);
  t.match(await shared.get('applied/left'), { value: { revision: 7 } });
  for (const isNoticedBefore of [false, true]) {
    told.length = 0;
    await shared.revoke((await store.get('live/left'))!.lease!);
    t.equal(await store.get('live/left'), undefined);
    if (isNoticedBefore) membership.lost();
    await time.pass(LEASE_MS);
    t.ok(await store.get('live/left'));
    t.match(await shared.get('applied/left'), { value: { revision: 7 } });
    const last = told.at(-1);
    t.equal(last, 'registered', 'whoever writes something under the lease is told of the new one');
  }
  await membership.close();
  t.equal(await store.get('live/left'), undefined, 'a daemon that ends says so');
});

t.test('a claim of a host that does not exist any more does not count', async (t) => {
  const { daemon, own, store } = await lab(t);
  await store.transact({ put: [{ key: 'host-claims/underlay/192.0.2.1', value: { host: 'gone' } }] });
  t.equal(await (await daemon('left', '192.0.2.1', 'aa01', await own())).started, undefined);
  t.same((await store.get('host-claims/underlay/192.0.2.1'))?.value, { host: 'left' });
});

t.test(
  'what somebody deletes by hand of a host that runs is written again at once, unless the host leaves',
  async (t) => {
    const { daemon, store, keys, own, time } = await lab(t);
    const { membership } = await daemon('left', '192.0.2.1', 'aa01', await own());
    const before = await keys();
    const { revision } = await store.list('live/');
    const stop = store.watch('live/', revision + 1, (event) => {
      if (event.kind === 'changes') membership.live.see(event.changes);
    });
    t.teardown(stop);
    await store.transact({ delete: ['live/left'] });
    await time.settle();
    t.same(await keys(), before);
    await store.transact({ delete: ['host-claims/mac/aa0100', 'hosts/left'] });
    membership.lost();
    await time.settle();
    t.same(await keys(), before);
    await membership.leave();
    await store.transact({ delete: ['live/left'] });
    await time.pass(120_000);
    t.same(
      await keys(),
      before.filter((key) => key !== 'live/left'),
    );
  },
);

t.test('what does not fit together is told, with the name of the host', async (t) => {
  const { daemon, own, store } = await lab(t);
  const { membership } = await daemon('left', '192.0.2.1', 'aa01', await own());
  const stop = store.watch('live/', 1, (event) => event.kind === 'changes' && membership.live.see(event.changes));
  membership.live.listed(new Set());
  await daemon('right', '192.0.2.2', 'bb01', await own(), {
    mtu: async () => 9000,
    wallClock: () => Date.UTC(2026, 0, 1, 1),
  });
  t.match(membership.differences(), [
    { detail: 'host "right" has an underlay of MTU 9000, and this host one of 1500', hint: /--mtu/ },
    { detail: 'the clock of host "right" is 60 min ahead of the one here', hint: /NTP/ },
  ]);
  stop();
});
