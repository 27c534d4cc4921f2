/** What becomes of blocks and claims while an endpoint waits, and while a network is not accepted or gone. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Store } from '../../src/store/store.ts';
import { attach, blocksIn, blue, openHost, settled } from './block-hosts.ts';
import { openStore } from './control-plane.ts';

t.setTimeout(120_000);

/** Seconds of all hosts, which the test moves on. */
let now = 0;
const open = (t: Test, shared: Store, host: string, known?: string) =>
  openHost(t, shared, host, known, { clock: () => now * 1000 });

t.test('an endpoint that waits for one of its addresses keeps the others', async (t) => {
  const shared = await openStore(t);
  const [a, first] = [await open(t, shared, 'a'), await open(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24', 'fd00::/120')]);
  await attach(a, 'a1');
  await settled(a, first);
  t.equal(await attach(first, 'b1'), '10.0.0.16,fd00::10');
  t.equal(await attach(first, 'b2', '10.0.0.9'), '10.0.0.9,fd00::11');
  await settled(a, first);
  await a.close();
  await first.close();
  const [ofA, network] = ['blocks/blue/4-10.0.0.0', await shared.get('networks/blue')];
  await shared.transact({
    put: [
      { key: ofA, value: { host: 'a', claimed: { '10.0.0.9': { host: 'a', endpoint: 'a2' } } } },
      { key: 'networks/blue', value: 'garbage' },
    ],
  });
  const b = await open(t, shared, 'b', first.directory);
  await settled(b);
  now += 61;
  await settled(b);
  await b.write({ 'networks/blue': network!.value });
  t.match(b.endpoints.failure('b2')?.message, /ip 10\.0\.0\.9 is not this host's: it is of a block of host "a"/);
  await t.rejects(attach(b, 'b3', 'fd00::11'), { message: 'endpoint "b3": ip fd00::11 is taken by endpoint "b2"' });
  t.equal(await attach(b, 'b3'), '10.0.0.17,fd00::12', 'neither that of the one that waits nor that of the other');
  t.equal(b.endpoints.failure('b1')?.message.includes(' ip ') ?? false, false);
});

t.test('a host keeps what it has of a network whose record it does not accept, and writes nothing of it', async (t) => {
  const shared = await openStore(t);
  const [a, first] = [await open(t, shared, 'a'), await open(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await attach(a, 'a1');
  await settled(a, first);
  await attach(first, 'b1', '10.0.0.9');
  await attach(first, 'b2');
  await settled(a, first);
  const before = await blocksIn(shared);
  const network = await shared.get('networks/blue');
  await first.close();
  await shared.transact({ put: [{ key: 'networks/blue', value: 'garbage' }] });
  const b = await open(t, shared, 'b', first.directory);
  const { revision } = await shared.list('');
  await settled(b, a);
  t.strictSame(await blocksIn(shared), before);
  t.equal((await shared.list('')).revision, revision);
  await b.write({ 'networks/blue': network!.value });
  for (const name of ['b1', 'b2']) t.notMatch(b.endpoints.failure(name)?.message ?? '', / ip /);
});

t.test('what a host had of a network that is gone is given back once, whoever has to answer', async (t) => {
  const shared = await openStore(t);
  const [a, b] = [await open(t, shared, 'a'), await open(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await attach(a, 'a1');
  await settled(a, b);
  await attach(b, 'b1', '10.0.0.9');
  await settled(a, b);
  await a.close();
  await b.write({ 'networks/blue': undefined });
  await settled(b);
  const { revision } = await shared.list('');
  t.match(await blocksIn(shared), {
    'blocks/blue/4-10.0.0.0': { claimed: { '10.0.0.9': { host: 'b', endpoint: 'b1', isFree: true } } },
  });
  await settled(b);
  t.equal((await shared.list('')).revision, revision);
});

t.test('an address that an endpoint of another host is declared with is yielded to it', async (t) => {
  const shared = await openStore(t);
  const [a, b] = [await open(t, shared, 'a'), await open(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await attach(a, 'a1');
  await settled(a, b);
  await attach(b, 'b1', '10.0.0.9');
  await settled(a, b);
  const ofA = 'blocks/blue/4-10.0.0.0';
  const granted = { host: 'a', claimed: { '10.0.0.9': { host: 'b', endpoint: 'b1' } } };
  t.strictSame((await blocksIn(shared))[ofA], granted);
  const free = { host: 'b', endpoint: 'b1', isFree: true };
  await shared.transact({ put: [{ key: ofA, value: { host: 'a', claimed: { '10.0.0.9': free } } }] });
  await settled(a, b);
  for (let n = 0; n < 2; n++) {
    await b.cluster.serial.run(() => b.endpoints.renew());
    await settled(b, a);
  }
  await b.cluster.serial.run(() => b.endpoints.renew());
  t.strictSame((await blocksIn(shared))[ofA], granted);
  t.notMatch(b.endpoints.failure('b1')?.message ?? '', / ip /);
});

t.test('the addresses of an endpoint whose record was never accepted here stay its own', async (t) => {
  const shared = await openStore(t);
  const openB = (known?: string) => open(t, shared, 'b', known);
  const [a, first] = [await open(t, shared, 'a'), await openB()];
  await a.cluster.apply([blue('10.0.0.0/29')]);
  await settled(a, first);
  const had = await attach(first, 'b1');
  await settled(a, first);
  const { value } = (await shared.get('endpoints/default/b1'))!;
  await first.close();
  // As if another version had run here before.
  rmSync(join(first.directory, 'copy'));
  await shared.transact({ put: [{ key: 'endpoints/default/b1', value: { host: 'b' } }] });
  const b = await openB(first.directory);
  t.equal(b.endpoints.find('b1'), undefined);
  await t.rejects(attach(b, 'other', had), { message: new RegExp(`ip ${had} is taken by endpoint "b1"`) });
  now += 120;
  await settled(b, a);
  for (const name of ['b2', 'b3', 'b4', 'b5']) t.not(await attach(b, name), had);
  await t.rejects(attach(b, 'b6'), { code: 'exhausted' });
  await b.write({ 'endpoints/default/b1': value });
  t.strictSame(b.endpoints.get('b1').addresses, [had]);
  await b.write({ 'endpoints/default/b1': undefined });
  now += 120;
  await settled(b, a);
  t.equal(await attach(b, 'b6'), had, 'until it is deleted');
});

t.test(
  'nor is an address of an endpoint that waits given away with a block that is claimed for another one',
  async (t) => {
    const shared = await openStore(t);
    const [a, b] = [await open(t, shared, 'a'), await open(t, shared, 'b')];
    await a.cluster.apply([blue('10.0.0.0/24')]);
    await settled(a, b);
    const had = await attach(b, 'b1');
    await settled(a, b);
    const { value } = (await shared.get('networks/blue'))!;
    await b.write({ 'networks/blue': undefined });
    await settled(b, a);
    t.strictSame(await blocksIn(shared), {});
    await shared.transact({ put: [{ key: 'networks/blue', value }] });
    // Before the block is claimed for the one that waits.
    t.not(await attach(b, 'b2'), had);
    await settled(b, a);
    await b.cluster.serial.run(() => b.endpoints.renew());
    t.notMatch(b.endpoints.failure('b1')?.message ?? '', / ip /);
  },
);

t.test('a claim for an endpoint that is another host’s again is given back', async (t) => {
  const shared = await openStore(t);
  const [a, b] = [await open(t, shared, 'a'), await open(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await attach(a, 'a1');
  await settled(a, b);
  t.equal(await attach(b, 'b1'), '10.0.0.16');
  await settled(a, b);
  const [key, ofB] = ['endpoints/default/b1', 'blocks/blue/4-10.0.0.16'];
  const { value } = (await shared.get(key))!;
  await shared.transact({ put: [{ key, value: { ...(value as object), host: 'a' } }] });
  await settled(a);
  await shared.transact({ put: [{ key, value }] });
  await settled(b, a);
  t.match((await blocksIn(shared))[ofB], { host: 'b', claimed: { '10.0.0.16': { host: 'a', endpoint: 'b1' } } });
  for (let n = 0; n < 2; n++) {
    now += 61;
    await settled(a, b);
  }
  await b.cluster.serial.run(() => b.endpoints.renew());
  t.strictSame((await blocksIn(shared))[ofB], { host: 'b', claimed: {} });
  t.notMatch(b.endpoints.failure('b1')?.message ?? '', / ip /, 'it has its address again');
});
