/** Which backends are unhealthy: what hosts say of their own backends, through a store that all of them share. */
import t from 'tap';
import type { Test } from 'tap';
import { UnhealthyBackends } from '../../src/checks/unhealthy-backends.ts';
import { formatIp } from '../../src/flow/types.ts';
import type { Change, Store } from '../../src/store/store.ts';
import type { Service } from '../../src/table/service.ts';
import { openStore } from '../cluster/control-plane.ts';
import { until } from '../support/process.ts';
import { backend, service } from '../support/services.ts';

const WEB = service({
  backends: [
    backend('10.0.1.1', { host: 'a' }),
    backend('10.0.1.2', { host: 'b' }),
    backend('10.0.1.3', { host: undefined }),
  ],
});
const why = 'TCP port 80: refused';
const key = (host: string): string => `unhealthy/${host}`;

interface Host {
  readonly unhealthy: UnhealthyBackends;
  readonly warnings: string[];
  /** What is in force: why, by address. */
  readonly inForce: Map<string, string>;
  readonly services: Map<string, Service>;
  /** Lets time pass: all that waits happens. */
  readonly pass: () => void;
  lease: string | undefined;
}

async function hostOf(t: Test, store: Store, hostName: string, { isNew = true } = {}): Promise<Host> {
  const warnings: string[] = [];
  const waiting: (() => void)[] = [];
  const host: Omit<Host, 'unhealthy'> = {
    ...{ warnings, inForce: new Map() },
    services: new Map([[WEB.id, WEB]]),
    pass: () => waiting.splice(0).forEach((work) => work()),
    lease: await store.grant(600_000),
  };
  const unhealthy = new UnhealthyBackends({
    ...{ hostName, store, lease: () => host.lease },
    service: (id) => host.services.get(id),
    setHealth: (_, faults) => {
      for (const [address, text] of faults) {
        if (text === undefined) host.inForce.delete(formatIp(address));
        else host.inForce.set(formatIp(address), text);
      }
    },
    warn: (_, message) => void warnings.push(message),
    after: (_, work) => {
      waiting.push(work);
      return () => {};
    },
  });
  const { declaredHosts } = unhealthy;
  await declaredHosts.see(['a', 'b', 'c'].map(declared), 0);
  const { entries, revision } = await store.list('unhealthy/');
  const see = (changes: readonly Change[]): void => unhealthy.see(changes);
  see(entries.map((entry) => ({ key: entry.key, entry })));
  unhealthy.listed(new Set(entries.map((entry) => entry.key)));
  const stop = store.watch('unhealthy/', revision + 1, (event) => {
    if (event.kind === 'changes') see(event.changes);
  });
  t.teardown(() => {
    unhealthy.close();
    stop();
  });
  if (isNew) for (const id of host.services.keys()) unhealthy.follow(id);
  return Object.assign(host, { unhealthy });
}

const declared = (name: string): Change => ({
  key: `hosts/${name}`,
  entry: { key: `hosts/${name}`, value: {}, revision: 1 },
});

const set = ({ unhealthy }: Host, address: string): void => unhealthy.set({ service: WEB.id, address, why });
const clear = ({ unhealthy }: Host, address: string): void =>
  unhealthy.set({ service: WEB.id, address, why: undefined });
/** Waits for the store; writes that are put off happen. */
const settled = (what: string, isSo: () => unknown, ...hosts: readonly Host[]): Promise<unknown> =>
  until(
    () => {
      for (const { pass } of hosts) pass();
      return isSo();
    },
    { what },
  );

t.test('what a host says of its own backends counts on all hosts, and of no others', async (t) => {
  const store = await openStore(t);
  const [a, b] = [await hostOf(t, store, 'a'), await hostOf(t, store, 'b')];
  set(a, '10.0.1.1');
  t.same([...a.inForce], [['10.0.1.1', why]], 'here at once');
  set(a, '10.0.1.2');
  set(a, '10.0.1.3');
  await settled('b knows it', () => b.inForce.has('10.0.1.1'), a, b);
  t.same([...b.inForce], [['10.0.1.1', `${why}, says host a`]]);
  t.same([...a.inForce.keys()], ['10.0.1.1']);
  clear(a, '10.0.1.1');
  t.equal(a.inForce.size, 0);
  await settled('b knows it', () => b.inForce.size === 0, a, b);
});

t.test('what the daemon before has said holds for a while, and nothing happens after the end', async (t) => {
  const store = await openStore(t);
  const value = { host: 'a', backends: { [WEB.id]: { '10.0.1.1': why } } };
  await store.transact({ put: [{ key: key('a'), value }] });
  for (const isClosed of [false, true]) {
    const a = await hostOf(t, store, 'a');
    t.same([...a.inForce], [['10.0.1.1', why]]);
    if (isClosed) a.unhealthy.close();
    else a.lease = undefined;
    a.pass();
    t.equal(a.inForce.size, isClosed ? 1 : 0, isClosed ? 'the tables may be gone by now' : 'its time is over');
  }
});

t.test('a record of a host that is not declared does not count, and is told once', async (t) => {
  const store = await openStore(t);
  const b = await hostOf(t, store, 'b');
  const { unhealthy, warnings, inForce } = b;
  const on = (host: string): Service => ({ ...WEB, backends: [backend('10.0.1.1', { host })] });
  const of = (host: string, name = host): Change => {
    const value = { host: name, backends: { [WEB.id]: { '10.0.1.1': why } } };
    return { key: key(host), entry: { key: key(host), value, revision: 2 } };
  };
  b.services.set(WEB.id, on('x'));
  unhealthy.see([of('x')]);
  unhealthy.see([of('x'), of('a', 'c')]);
  t.equal(inForce.size, 0);
  const detail = 'unhealthy/x in the store does not count: there is no host "x"';
  t.same(warnings, [detail]);
  t.same(unhealthy.clashes(), [{ detail, hint: 'delete it in the store' }]);
  const { declaredHosts } = unhealthy;
  await declaredHosts.see([declared('x')], 3);
  t.equal(inForce.size, 1, 'from now on it does');
  t.same(unhealthy.clashes(), []);
  await declaredHosts.listed!(new Set(['hosts/a', 'hosts/b', 'hosts/c']), 4);
  t.equal(inForce.size, 0, 'the host has gone');
  b.services.set(WEB.id, on('a'));
  unhealthy.follow(WEB.id);
  t.equal(inForce.size, 0, 'nor does the record of another host under its name');
});

t.test('a backend that moves, and a service that comes later', async (t) => {
  const store = await openStore(t);
  const [a, b] = [await hostOf(t, store, 'a'), await hostOf(t, store, 'b')];
  b.services.clear();
  set(a, '10.0.1.1');
  await settled('it is stored', async () => (await store.get(key('a'))) !== undefined, a);
  b.unhealthy.follow(WEB.id);
  t.equal(b.inForce.size, 0, 'there is no such service');
  b.services.set(WEB.id, WEB);
  b.unhealthy.follow(WEB.id);
  t.equal(b.inForce.size, 1);
  b.services.set(WEB.id, { ...WEB, backends: [backend('10.0.1.1', { host: 'b' })] });
  b.unhealthy.follow(WEB.id);
  t.equal(b.inForce.size, 0, 'host a does not have it any more');
  await store.transact({ put: [{ key: key('a'), value: 'not readable' }] });
  await store.transact({ put: [{ key: key('c'), value: { host: 'c', backends: { x: { y: 1 } } } }] });
});

t.test(
  'what changes within a second is written together, and again under another lease or when it is lost',
  async (t) => {
    const store = await openStore(t);
    const a = await hostOf(t, store, 'a');
    const stored = async () => (await store.get(key('a')))?.value as { backends: Record<string, unknown> } | undefined;
    const revisionOf = async () => (await store.get(key('a')))?.revision ?? 0;
    for (const last of [1, 2, 3]) set(a, `10.0.1.${last}`);
    await settled('all three', async () => Object.keys((await stored())?.backends[WEB.id] ?? {}).length === 3, a);
    t.ok((await revisionOf()) <= 2, 'the first at once, the others together');
    const before = await revisionOf();
    a.lease = undefined;
    clear(a, '10.0.1.1');
    a.pass();
    t.equal(await revisionOf(), before, 'nothing is written while it is not registered');
    a.lease = await store.grant(600_000);
    a.unhealthy.publish();
    await settled('the other lease', async () => (await store.get(key('a')))?.lease === a.lease, a);
    await store.revoke(a.lease);
    a.lease = await store.grant(600_000);
    await settled('it is back', async () => (await store.get(key('a')))?.lease === a.lease, a);
    for (const last of [2, 3]) clear(a, `10.0.1.${last}`);
    await settled('it is gone', async () => (await stored()) === undefined, a);
  },
);

t.test('what the daemon before it has said counts for some seconds', async (t) => {
  const store = await openStore(t);
  const value = { host: 'a', backends: { [WEB.id]: { '10.0.1.1': why } } };
  for (const isStillSo of [true, false]) {
    await store.transact({ put: [{ key: key('a'), value, lease: await store.grant(600_000) }] });
    const b = await hostOf(t, store, 'b');
    const a = await hostOf(t, store, 'a');
    t.same([...a.inForce.keys()], ['10.0.1.1']);
    await until(async () => (await store.get(key('a')))?.lease === a.lease, { what: 'it goes with the new daemon' });
    if (isStillSo) set(a, '10.0.1.1');
    t.equal(b.inForce.size, 1);
    a.pass();
    t.equal(a.inForce.size, isStillSo ? 1 : 0);
    if (isStillSo) clear(a, '10.0.1.1');
    await settled('it is over everywhere', () => b.inForce.size === 0, a, b);
    a.unhealthy.close();
    b.unhealthy.close();
  }
});
