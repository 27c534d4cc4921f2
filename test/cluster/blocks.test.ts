/** Hosts with one store give addresses out of blocks that they claim, and out of each other's. */
import { queryObjects } from 'node:v8';
import t, { type Test } from 'tap';
import { Holding } from '../../src/cluster/addresses/holding.ts';
import { keyOf, nameOfKey } from '../../src/cluster/keys.ts';
import { attachment as endpointOf } from '../../src/cluster/attachment.ts';
import { WeftError } from '../../src/error.ts';
import { addressValue } from '../../src/model/address.ts';
import { DOCKER } from '../../src/model/endpoint-annotations.ts';
import { endpointKind } from '../../src/model/kinds/endpoint.ts';
import { hostKind } from '../../src/model/kinds/host.ts';
import { networkKind } from '../../src/model/kinds/network.ts';
import type { Store } from '../../src/store/store.ts';
import { Switchable } from '../support/switchable.ts';
import { attach, blocksIn, blue, endpoint, netns, openHost, settled, type Plane } from './block-hosts.ts';
import { manifest, openStore, type ControlPlaneOptions } from './control-plane.ts';

t.setTimeout(120_000);

/** Seconds of all hosts, which the test moves on. */
let now = 0;
const clock = (): number => now * 1000;
/** Whoever does not answer has been away for long enough. */
const after = (_: number, work: () => void): (() => void) => {
  const timeout = setTimeout(work, 100);
  return () => clearTimeout(timeout);
};

const open = (t: Test, shared: Store, host: string, known?: string, options: ControlPlaneOptions = {}) =>
  openHost(t, shared, host, known, { clock, ...options });

const detach = ({ cluster }: Plane, name: string) => cluster.delete(endpointKind, { name });

t.test('each host has blocks of its own, and claims the next one before it needs it', async (t) => {
  const shared = await openStore(t);
  const [a, b] = [await open(t, shared, 'a'), await open(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24', 'fd00::/120')]);
  await settled(b);
  t.equal(await attach(a, 'a1'), '10.0.0.2,fd00::2');
  await settled(b);
  t.equal(await attach(b, 'b1'), '10.0.0.16,fd00::10');
  t.equal(await attach(a, 'a2'), '10.0.0.3,fd00::3');
  await settled(a, b);
  t.strictSame(await blocksIn(shared), {
    'blocks/blue/4-10.0.0.0': { host: 'a', claimed: {} },
    'blocks/blue/4-10.0.0.16': { host: 'b', claimed: {} },
    'blocks/blue/6-fd00::': { host: 'a', claimed: {} },
    'blocks/blue/6-fd00::10': { host: 'b', claimed: {} },
  });
  for (let n = 3; n < 9; n++) await attach(a, `a${n}`);
  await settled(a);
  t.match((await blocksIn(shared))['blocks/blue/4-10.0.0.32'], { host: 'a' });
  for (let n = 9; n < 17; n++) await attach(a, `a${n}`);
  const given = [...a.endpoints.in('blue')].flatMap(({ name, addresses }) => (name === 'b1' ? [] : addresses[0]!));
  t.same(
    new Set(given),
    new Set([...Array.from({ length: 14 }, (_, n) => `10.0.0.${n + 2}`), '10.0.0.32', '10.0.0.33']),
  );
});

t.test('a file that creates a network and attaches more than one block of endpoints is one change', async (t) => {
  const shared = await openStore(t);
  const a = await open(t, shared, 'a');
  const names = Array.from({ length: 40 }, (_, n) => `web${n + 10}`);
  await a.cluster.apply([blue('10.0.0.0/26'), ...names.map((name) => endpoint(name, { interface: name }))]);
  const given = names.map((name) => a.endpoints.get(name).addresses[0]);
  t.same(
    given,
    Array.from({ length: 40 }, (_, n) => `10.0.0.${n + 2}`),
  );
});

t.test('an address can be chosen: of nobody, of another host that agrees, and not one that is used', async (t) => {
  const shared = await openStore(t);
  const [a, b] = [await open(t, shared, 'a'), await open(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  t.equal(await attach(a, 'a1'), '10.0.0.2');
  await settled(b);
  t.equal(await attach(b, 'free', '10.0.0.99'), '10.0.0.99');
  t.equal(await attach(b, 'asked', '10.0.0.9'), '10.0.0.9');
  t.match(await blocksIn(shared), {
    'blocks/blue/4-10.0.0.0': { host: 'a', claimed: { '10.0.0.9': { host: 'b', endpoint: 'asked' } } },
    'blocks/blue/4-10.0.0.96': { claimed: { '10.0.0.99': { host: 'b', endpoint: 'free' } } },
  });
  await t.rejects(attach(b, 'b3', '10.0.0.2'), { message: 'endpoint "b3": ip 10.0.0.2 is taken by endpoint "a1"' });
  await t.rejects(attach(a, 'a3', '10.0.0.9'), { message: 'endpoint "a3": ip 10.0.0.9 is taken by endpoint "asked"' });
  await t.rejects(attach(b, 'b3', '10.0.0.1'), { code: 'invalid', message: /is the gateway's/ });
  await t.rejects(attach(b, 'b3', '10.0.0.255'), { code: 'invalid', message: /is the broadcast address/ });
  const given = [];
  for (let n = 0; n < 12; n++) given.push(await attach(a, `more${n}`));
  t.notOk(given.includes('10.0.0.9'), 'what was yielded is not given');

  // It is given back a minute later, and only then.
  await detach(b, 'asked');
  await settled(b, a);
  await t.rejects(attach(a, 'a3', '10.0.0.9'), { message: /is taken by endpoint "asked" of host "b"/ });
  t.equal(await attach(b, 'asked'), '10.0.0.16', 'it is not chosen again');
  now += 60;
  await settled(b, a);
  t.strictSame((await blocksIn(shared))['blocks/blue/4-10.0.0.0'], { host: 'a', claimed: {} });
  t.equal(await attach(a, 'a3', '10.0.0.9'), '10.0.0.9');
});

t.test('several that want one address at once all learn why they do not get it', async (t) => {
  const shared = await openStore(t);
  const [a, b] = [await open(t, shared, 'a'), await open(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  t.equal(await attach(a, 'a1'), '10.0.0.2');
  await detach(a, 'a1');
  await settled(a, b);
  const attached = await Promise.allSettled(['b1', 'b2', 'b3'].map((name) => attach(b, name, '10.0.0.2')));
  for (const one of attached) {
    t.match(one, {
      reason: { message: /of a block of host "a", which does not give it away: an endpoint has it, or had/ },
    });
  }
});

t.test('a host that does not answer gives nothing away, until it is removed', async (t) => {
  const shared = await openStore(t);
  const a = await open(t, shared, 'a');
  const b = await open(t, shared, 'b', undefined, { after });
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await attach(a, 'a1');
  await attach(a, 'a2');
  await settled(a, b);
  await a.close();
  await t.rejects(attach(b, 'b1', '10.0.0.9'), {
    code: 'unreachable',
    message:
      'endpoint "b1": ip 10.0.0.9 is of a block of host "a", which does not answer: choose another address, or remove that host for good with `weft delete host a`',
  });
  await settled(b);
  t.strictSame(
    (await blocksIn(shared))['blocks/blue/4-10.0.0.0'],
    { host: 'a', claimed: {} },
    'the question is withdrawn',
  );
  t.equal(await attach(b, 'b1'), '10.0.0.16', 'others can be had');
  const goes = {
    kind: 'Host',
    name: 'a',
    with: ['endpoint "a1"', 'endpoint "a2"', 'address block 10.0.0.0 of network "blue"'],
  };
  const claims = [
    'claim of host id 61000000000000000000000000000000',
    'claim of underlay 192.0.2.2',
    'claim of MAC bits 000002',
  ];
  for (const dryRun of [true, false]) {
    const report = await b.cluster.delete(hostKind, { name: 'a' }, { dryRun });
    t.match({ ...report, with: new Set(report.with) }, { ...goes, dryRun, with: new Set([...claims, ...goes.with]) });
  }
  t.match(Object.keys(await blocksIn(shared)), ['blocks/blue/4-10.0.0.16']);
  await settled(b);
  t.equal(await attach(b, 'b2', '10.0.0.9'), '10.0.0.9');
});

t.test('a store that takes no changes is why a host cannot be asked for an address', async (t) => {
  const shared = await openStore(t);
  const link = new Switchable(shared);
  const a = await open(t, shared, 'a');
  let noteTried = (): void => {};
  const isTried = new Promise<void>((resolve) => (noteTried = resolve));
  // What is late is so when the question was tried.
  const b = await open(t, link, 'b', undefined, {
    after: (delayMs, work) => {
      let isCancelled = false;
      void isTried.then(() => after(delayMs, () => isCancelled || work()));
      return () => (isCancelled = true);
    },
  });
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await attach(a, 'a1');
  await settled(a, b);
  link.beforeCall = async (call) => {
    if (call !== 'transact') return;
    noteTried();
    throw new WeftError('unreachable', 'etcd: it has no leader: most members are away');
  };
  await t.rejects(attach(b, 'b1', '10.0.0.9'), {
    code: 'unreachable',
    message:
      'endpoint "b1": ip 10.0.0.9 is of a block of host "a", which cannot be asked: the store does not take this now (etcd: it has no leader: most members are away): address block 10.0.0.0 of network "blue" cannot be changed meanwhile',
  });
  link.beforeCall = async () => {};
  await settled(b, a);
  t.equal(await attach(b, 'b1', '10.0.0.9'), '10.0.0.9');
});

t.test('a block whose record is damaged goes with its host, and with no other one', async (t) => {
  const shared = await openStore(t);
  const [a, b, c] = [await open(t, shared, 'a'), await open(t, shared, 'b'), await open(t, shared, 'c')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await attach(a, 'a1');
  await settled(b);
  await attach(b, 'b1');
  await settled(a, b, c);
  t.equal(await attach(c, 'c1', '10.0.0.9'), '10.0.0.9');
  t.equal(await attach(c, 'c2', '10.0.0.25'), '10.0.0.25');
  t.equal(await attach(a, 'a2', '10.0.0.26'), '10.0.0.26');
  await settled(a, b, c);
  const [ofA, ofB] = ['blocks/blue/4-10.0.0.0', 'blocks/blue/4-10.0.0.16'];
  t.match(await blocksIn(shared), { [ofA]: { host: 'a' }, [ofB]: { host: 'b' } });
  for (const gone of [b, c]) await gone.close();
  const damaged = { host: 'b', claimed: 'none' };
  await shared.transact({ put: [{ key: ofB, value: damaged }] });
  await settled(a);

  await a.cluster.delete(hostKind, { name: 'c' });
  t.strictSame((await shared.get(ofB))?.value, damaged, 'b writes it anew');
  await a.cluster.delete(hostKind, { name: 'b' });
  t.match((await blocksIn(shared))[ofB], { claimed: { '10.0.0.26': { host: 'a', endpoint: 'a2' } } });
  await settled(a);
  t.equal(await attach(a, 'a3', '10.0.0.27'), '10.0.0.27', 'what b had can be had');
  t.equal(a.endpoints.get('a2').addresses.join(), '10.0.0.26');
});

t.test('when all blocks are taken, single addresses are had from whoever has some', async (t) => {
  const shared = await openStore(t);
  const [a, b, c] = [await open(t, shared, 'a'), await open(t, shared, 'b'), await open(t, shared, 'c')];
  await a.cluster.apply([blue('10.0.0.0/27')]);
  await settled(a, b, c);
  for (const [plane, name] of [
    [a, 'a1'],
    [b, 'b1'],
    [c, 'c1'],
  ] as const) {
    await attach(plane, name);
    await settled(a, b, c);
  }
  t.match((await blocksIn(shared))['blocks/blue/4-10.0.0.16'], { host: 'b' });
  const all = new Set<string>([a, b].flatMap(({ endpoints }) => endpoints.all().flatMap(({ addresses }) => addresses)));
  for (let n = 0; n < 26; n++) {
    const plane = [a, b, c][n % 3]!;
    all.add(await attach(plane, `x${n}`));
    await settled(a, b, c);
  }
  t.equal(all.size, 29, 'every address of the subnet');
  await t.rejects(attach(c, 'late'), {
    code: 'exhausted',
    message:
      /^subnet 10\.0\.0\.0\/27 of network "blue" is full \(of its addresses, host "a" has \d+, host "b" has \d+, host "c" has \d+;/,
  });
});

t.test('an address rests for a minute, not for the endpoint that had it, and across a restart', async (t) => {
  const shared = await openStore(t);
  let a = await open(t, shared, 'a');
  await a.cluster.apply([blue('10.0.0.0/24')]);
  for (const name of ['one', 'two', 'three']) await attach(a, name);
  await settled(a);
  await detach(a, 'one');
  t.equal(await attach(a, 'one'), '10.0.0.2', 'it need not ask for it');
  await detach(a, 'one');
  await t.rejects(attach(a, 'other', '10.0.0.2'), {
    message: 'endpoint "other": ip 10.0.0.2 was endpoint "one"\'s a moment ago: another endpoint can have it in 60 s',
  });
  const b = await open(t, shared, 'b');
  await t.rejects(attach(b, 'other', '10.0.0.2'), {
    code: 'conflict',
    message:
      'endpoint "other": ip 10.0.0.2 is of a block of host "a", which does not give it away: an endpoint has it, or had it less than a minute ago',
  });
  t.equal(await attach(a, 'one', '10.0.0.2'), '10.0.0.2');
  await detach(a, 'one');
  await settled(a);
  now += 30;
  await a.close();
  a = await open(t, shared, 'a', a.directory);
  await t.rejects(attach(a, 'other', '10.0.0.2'), { message: /can have it in 60 s/ }, 'nobody knows since when');
  t.equal(await attach(a, 'other'), '10.0.0.5');
  now += 60;
  t.equal(await attach(a, 'another', '10.0.0.2'), '10.0.0.2');
  t.match((await a.blocks!.keep(), await blocksIn(shared)), { 'blocks/blue/4-10.0.0.0': { host: 'a' } });
});

t.test('what an engine has carried gets an address again that the engine gave back, across a restart', async (t) => {
  const shared = await openStore(t);
  let a = await open(t, shared, 'a');
  await a.cluster.apply([blue('10.0.0.0/24')]);
  const carry = (name: string, ip: string) => {
    const resource = endpointOf(
      { name, network: 'blue', netns, ifname: 'weft-0', ip: [ip], annotations: { [DOCKER]: 'held 10.0.0.0/24' } },
      undefined,
    );
    return a.cluster.change(() => a.cluster.applyOrTakeBack(resource));
  };
  await carry('docker-1', '10.0.0.9');
  await settled(a);
  await detach(a, 'docker-1');
  await carry('docker-2', '10.0.0.9');
  await detach(a, 'docker-2');
  await t.rejects(attach(a, 'other', '10.0.0.9'), { message: /was endpoint "docker-2"'s a moment ago/ });
  t.not(await attach(a, 'any'), '10.0.0.9');
  await settled(a);
  await a.close();
  a = await open(t, shared, 'a', a.directory);
  await t.rejects(attach(a, 'other', '10.0.0.9'), { message: /can have it in 60 s/ });
  await carry('docker-3', '10.0.0.9');
  await attach(a, 'mine', '10.0.0.10');
  await detach(a, 'mine');
  await t.rejects(carry('docker-4', '10.0.0.10'), { message: /was endpoint "mine"'s a moment ago/ });
  // One that is killed when it has just released an endpoint has noted nothing of that.
  await carry('docker-5', '10.0.0.11');
  await settled(a);
  await a.close();
  await shared.transact({ delete: [keyOf(endpointKind, 'docker-5')] });
  a = await open(t, shared, 'a', a.directory);
  await t.rejects(attach(a, 'other', '10.0.0.11'), { message: /was endpoint "docker-5"'s a moment ago/ });
  await carry('docker-6', '10.0.0.11');
});

t.test('blocks that are not used go back', async (t) => {
  const shared = await openStore(t);
  const a = await open(t, shared, 'a');
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await attach(a, 'one');
  await settled(a);
  await detach(a, 'one');
  now += 61;
  await settled(a);
  t.match(Object.keys(await blocksIn(shared)), ['blocks/blue/4-10.0.0.0']);
  now += 300;
  await settled(a);
  t.strictSame(await blocksIn(shared), {});
  await a.close();
  const again = await open(t, shared, 'a', a.directory);
  t.equal(await attach(again, 'two'), '10.0.0.2');
});

t.test('a deleted network takes its blocks along, and they are claimed anew in the next one', async (t) => {
  const shared = await openStore(t);
  const [a, b] = [await open(t, shared, 'a'), await open(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await settled(b);
  for (const plane of [a, b]) await attach(plane, `x${plane === a ? 1 : 2}`);
  await settled(a, b);
  await detach(a, 'x1');
  await detach(b, 'x2');
  await settled(a, b);
  await b.cluster.delete(networkKind, { name: 'blue' });
  t.notOk('blocks/blue/4-10.0.0.16' in (await blocksIn(shared)), 'its own go with it');
  await settled(a, b);
  t.strictSame(await blocksIn(shared), {}, 'the other host gives up what it has');
  await b.cluster.apply([blue('10.0.0.0/24')]);
  await settled(a, b);
  t.equal(await attach(b, 'x2'), '10.0.0.2');
});

t.test('a host that is cut off keeps its addresses while its network is deleted and created again', async (t) => {
  const shared = await openStore(t);
  const link = new Switchable(shared);
  const a = await open(t, shared, 'a', undefined, { after });
  const b = await open(t, link, 'b');
  const red = manifest('Network', 'red', { subnets: ['10.0.0.0/25'] });
  await a.cluster.apply([blue('10.0.0.0/27')]);
  await settled(b);
  t.equal(await attach(b, 'b1'), '10.0.0.2');
  await detach(b, 'b1');
  await settled(a, b);
  link.away();
  t.equal(await attach(b, 'b2'), '10.0.0.3', 'it attaches while nobody hears of it');

  await a.cluster.delete(networkKind, { name: 'blue' });
  t.match(await blocksIn(shared), { 'blocks/blue/4-10.0.0.0': { host: 'b' } });
  await t.rejects(a.cluster.apply([red]), {
    code: 'conflict',
    message:
      /^network "red": host "b" still has addresses of it from network "blue", which was deleted: choose another/,
  });
  await a.cluster.apply([blue('10.0.0.0/27')]);
  const given: string[] = [];
  for (let n = 0; n < 14; n++) given.push(await attach(a, `a${n}`));
  t.notOk(given.includes('10.0.0.3'));
  t.ok(
    given.every((ip) => Number(ip.split('.')[3]) >= 16),
    `${given.join()}: none of the block of b`,
  );
  link.back();
  do await settled(a, b);
  while (b.feed.report()!.pending.length > 0);
  await settled(a);
  t.equal(b.endpoints.get('b2').addresses.join(), '10.0.0.3');
  t.equal(a.endpoints.get('b2').addresses.join(), '10.0.0.3', 'it is known now, and still in force');
  t.match(await blocksIn(shared), {
    'blocks/blue/4-10.0.0.0': { host: 'b' },
    'blocks/blue/4-10.0.0.16': { host: 'a' },
  });
});

t.test('a host that was cut off gives up what it has of a deleted network, also after a restart', async (t) => {
  for (const restarts of [false, true]) {
    const shared = await openStore(t);
    const link = new Switchable(shared);
    const a = await open(t, shared, 'a');
    let b = await open(t, link, 'b');
    await a.cluster.apply([blue('10.0.0.0/24')]);
    await settled(b);
    await attach(b, 'b1');
    await detach(b, 'b1');
    await settled(a, b);
    link.away();
    if (restarts) await b.close();
    await a.cluster.delete(networkKind, { name: 'blue' });
    const creating = a.cluster.apply([manifest('Network', 'red', { subnets: ['10.0.0.0/25'] })]);
    link.back();
    if (restarts) b = await open(t, link, 'b', b.directory);
    await settled(b);
    t.match(await creating, [{ action: 'created' }], 'who waits for that goes on');
    t.strictSame(await blocksIn(shared), {});
  }
});

t.test('200 attaches at once on three hosts, one of which is killed: no address twice, none lost', async (t) => {
  const shared = await openStore(t);
  const planes = [await open(t, shared, 'a'), await open(t, shared, 'b'), await open(t, shared, 'c')];
  await planes[0]!.cluster.apply([blue('10.0.0.0/24', 'fd00::/64')]);
  await settled(...planes);
  const results = Array.from({ length: 200 }, (_, n) => attach(planes[n % 3]!, `web${n}`));
  const outcomes = results.map((one) =>
    one.then(
      () => true,
      () => false,
    ),
  );
  await Promise.race(results.slice(30, 33));
  await planes[2]!.close();
  const given = await Promise.all(outcomes);
  t.ok(given.filter((one, n) => n % 3 !== 2 && !one).length === 0, 'the others go on');
  planes[2] = await open(t, shared, 'c', planes[2]!.directory);
  await settled(...planes);
  for (let n = 2; n < 200; n += 3) {
    if (!planes[2].endpoints.find(`web${n}`)) await attach(planes[2], `web${n}`);
  }
  await settled(...planes);
  const { entries } = await shared.list('endpoints/');
  t.equal(entries.length, 200);
  const addresses = entries.flatMap(({ value }) => (value as { addresses: string[] }).addresses);
  t.equal(new Set(addresses).size, 400, 'no address twice');
  for (const { endpoints } of planes) {
    t.same(
      Object.values(endpoints.problems())
        .flat()
        .filter((why) => /address|ip /.test(why)),
      [],
      'every host may use what its endpoints have',
    );
  }
  for (const { endpoints, cluster } of planes) {
    for (const { name, host } of [...endpoints.all()])
      if (host === undefined) await cluster.delete(endpointKind, { name });
  }
  await settled(...planes);
  now += 61;
  await settled(...planes);
  now += 301;
  await settled(...planes);
  t.strictSame(await blocksIn(shared), {}, 'nothing is left');
});

t.test('an endpoint that moves takes its addresses along, and they come home', async (t) => {
  const shared = await openStore(t);
  const [a, b] = [await open(t, shared, 'a'), await open(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  t.equal(await attach(a, 'web'), '10.0.0.2');
  await settled(a, b);
  const move = ({ cluster }: Plane) =>
    cluster.change(() => cluster.applyNow([endpoint('web', {})], { moves: ['web'] }));
  await move(b);
  await settled(a, b);
  t.equal(a.endpoints.get('web').host, 'b');
  t.match((await blocksIn(shared))['blocks/blue/4-10.0.0.0'], {
    claimed: { '10.0.0.2': { host: 'b', endpoint: 'web' } },
  });
  t.equal(await attach(a, 'other'), '10.0.0.3');
  await move(a);
  await settled(a, b);
  t.strictSame((await blocksIn(shared))['blocks/blue/4-10.0.0.0'], { host: 'a', claimed: {} });
  t.equal(a.endpoints.get('web').host, undefined);
});

t.test('of two hosts that attach with one MAC or one name at once, one is refused', async (t) => {
  const shared = await openStore(t);
  const alive = { membership: { isReachable: () => true } };
  const a = await open(t, shared, 'a', undefined, alive);
  const b = await open(t, shared, 'b', undefined, alive);
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await settled(a, b);
  const use = ({ cluster }: Plane, name: string, spec: object) =>
    cluster.change(() => cluster.applyNow([endpoint(name, spec)]));
  for (let round = 0; round < 5; round++) {
    const mac = `02:00:00:00:00:0${round}`;
    await Promise.allSettled([use(a, `a${round}`, { mac }), use(b, `b${round}`, { mac })]);
    await settled(a, b);
    const whyNot = [a, b].map(({ endpoints }) =>
      [`a${round}`, `b${round}`].filter((name) => /mac .* is taken by/.test(endpoints.failure(name)?.message ?? '')),
    );
    const there = [a, b].map(({ endpoints }) => [`a${round}`, `b${round}`].filter((name) => endpoints.find(name)));
    t.same(whyNot[0], whyNot[1], 'both hosts agree on who waits');
    t.equal(there[0]!.length - whyNot[0]!.length, 1, 'one has it');

    const names = await Promise.allSettled([use(a, `n${round}`, {}), use(b, `n${round}`, {})]);
    t.same(names.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    const refused = names.find(({ status }) => status === 'rejected') as PromiseRejectedResult;
    t.match(refused.reason, { code: 'conflict', message: /^endpoint "n\d" is on host "[ab]"/ });
  }
});

t.test('a daemon that starts without the store goes on with what it holds, and gives no more away', async (t) => {
  const shared = await openStore(t);
  const first = await open(t, shared, 'a');
  const b = await open(t, shared, 'b');
  await first.cluster.apply([blue('10.0.0.0/24')]);
  await settled(first, b);
  await attach(first, 'one');
  await settled(first, b);
  await attach(b, 'taken', '10.0.0.9');
  await attach(first, 'far', '10.0.0.200');
  await settled(first, b);
  await first.close();

  const gone = new WeftError('unreachable', 'the store is away');
  const away: Store = {
    ...shared,
    operationLimit: Infinity,
    health: () => ({ isReachable: false, why: 'it is away' }),
    onHealth: () => () => {},
    get: () => Promise.reject(gone),
    list: () => Promise.reject(gone),
    transact: () => Promise.reject(gone),
    watch: () => () => {},
    close: async () => {},
  };
  const a = await open(t, away, 'a', first.directory);
  const waits = Object.values(a.endpoints.problems()).flat();
  t.same(
    waits.filter((why) => / ip /.test(why)),
    [],
    'what its endpoints have is its own',
  );
  const given = new Set<string>();
  for (let n = 0; n < 12; n++) given.add(await attach(a, `more${n}`));
  t.equal(given.size, 12);
  t.notOk(given.has('10.0.0.9'), 'what was yielded before');
  t.ok(
    [...given].every((ip) => Number(ip.split('.')[3]) < 16),
    'all of its own block',
  );
  // Neither names what only the store has a word for.
  const isAway = 'the store cannot be reached (it is away)';
  await t.rejects(attach(a, 'late'), {
    code: 'unreachable',
    message: `${isAway}: endpoint "late": this host has no address of network "blue" left, and cannot claim more meanwhile`,
  });
  for (const ip of ['10.0.0.99', '10.0.0.201']) {
    await t.rejects(attach(a, 'x', ip), {
      code: 'unreachable',
      message: `${isAway}: endpoint "x": ip ${ip} is in no block of this host, and cannot be claimed meanwhile: without --ip, it gets one that this host has`,
    });
  }
  await t.rejects(attach(a, 'x', '10.9.0.1'), {
    code: 'invalid',
    message: 'endpoint "x": ip 10.9.0.1 is outside the subnets of network "blue" (10.0.0.0/24)',
  });
  await t.rejects(a.cluster.label(endpointKind, { name: 'taken' }, { tier: 'data' }), {
    code: 'unreachable',
    message: `${isAway}: endpoint "taken" cannot be changed meanwhile`,
  });
  t.equal(nameOfKey('blocks/blue/4-10.0.0.16'), 'address block 10.0.0.16 of network "blue"');
});

t.test('nothing is left of the blocks of networks that come and go', async (t) => {
  const shared = await openStore(t);
  const here = await open(t, shared, 'here');
  const subnets = ['10.0.0.0/24'];
  for (const name of ['red', 'green']) {
    await here.cluster.apply([
      manifest('Network', name, { subnets }),
      manifest('Endpoint', 'web', { network: name, netns }),
    ]);
    await here.cluster.delete(endpointKind, { name: 'web' });
    await here.cluster.delete(networkKind, { name });
    await settled(here);
  }
  t.equal(Number(queryObjects(Holding, { format: 'count' })), 0);
});

t.test('an address that comes back for an endpoint is not given back because it was used here long ago', async (t) => {
  const holding = new Holding({ key: 'blocks/blue/4-10.0.0.0', network: 'blue', first: addressValue('10.0.0.0') }, 'b');
  const address = addressValue('10.0.0.9');
  holding.use(address, 'web');
  holding.free(address, 0);
  holding.rest(61_000, 60_000);
  holding.wrote(5);
  holding.see({ host: 'a', claimed: { '10.0.0.9': { host: 'b', endpoint: 'web' } } }, 6, 6);
  t.ok(holding.mayUse(address));
  t.notOk(holding.used.has(address), 'how long it may take to come counts from now');
});
