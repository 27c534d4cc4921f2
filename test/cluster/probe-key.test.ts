/** The key of the probes: one for all hosts of a store, whoever creates it. */
import t from 'tap';
import { ProbeKey } from '../../src/cluster/membership/probe-key.ts';
import type { Store } from '../../src/store/store.ts';
import { openStore } from './control-plane.ts';

const KEY = 'keys/probe';

/** A host that has read the store. */
async function hostOf(store: Store, byte: number, mustWait: () => string | undefined = () => undefined) {
  const host = new ProbeKey({ store, mustWait, random: () => new Uint8Array(32).fill(byte) });
  await read(host, store);
  return host;
}

async function read(host: ProbeKey, store: Store): Promise<void> {
  const { entries } = await store.list('');
  host.see(entries.map((entry) => ({ key: entry.key, entry })));
  host.listed(new Set(entries.map(({ key }) => key)));
}

t.test('hosts that begin at once have one key', async (t) => {
  const store = await openStore(t);
  const hosts = await Promise.all([1, 2, 3].map((byte) => hostOf(store, byte)));
  await Promise.all(hosts.map((host) => host.keep()));
  for (const host of hosts) await read(host, store);
  const [first] = hosts;
  t.equal(first!.key!.length, 32);
  for (const host of hosts) t.same(host.key, first!.key);
  t.match((await store.get(KEY))!.value, { key: /^[0-9a-f]{64}$/ });
  await first!.keep();
  t.equal((await store.get(KEY))!.revision, 1, 'it is not written again');
});

t.test('a store that is not what it was is not written to', async (t) => {
  const store = await openStore(t);
  let why: string | undefined = 'the store is another one';
  const host = await hostOf(store, 1, () => why);
  await host.keep();
  t.equal(await store.get(KEY), undefined);
  why = undefined;
  await host.keep();
  t.ok(await store.get(KEY));
});

t.test('a key that is deleted or damaged is still used, and a deleted one is written again', async (t) => {
  const store = await openStore(t);
  const host = await hostOf(store, 7);
  await host.keep();
  await read(host, store);
  const { key } = host;
  host.see([{ key: KEY, entry: { key: KEY, value: { key: 'short' }, revision: 9 } }]);
  t.same(host.key, key);
  await store.transact({ delete: [KEY] });
  host.see([{ key: KEY, entry: undefined }]);
  t.same(host.key, key);
  await host.keep();
  t.same((await store.get(KEY))!.value, { key: '07'.repeat(32) });
});
