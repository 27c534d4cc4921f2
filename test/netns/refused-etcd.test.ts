/**
 *   ┌ a ─────────────┐   ┌ b ─────────────┐
 *   │ web            │   │ db (7000, 7001)│
 *   └─ .1 ───────────┘   └─ .2 ───────────┘
 *         └── 192.0.2.0/24, one bridge ┴── etcd (.100): somebody damages records
 *
 * What is in force stays so where the store has records that a host does not accept, also when its daemon is killed and starts
 * anew, with the store and without it; and no policy is open for that.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { exchanged } from '../support/exchanges.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { twoHostsOnEtcd } from '../support/store-outage.ts';
import { ping, python } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

const [OPEN, GUARDED] = [7000, 7001];
const CONNECTIONS = 4;
const KEYS = [
  'weft/state/networks/blue',
  'weft/state/endpoints/default/web',
  'weft/state/endpoints/default/db',
  'weft/state/networkpolicies/default/guarded',
];
const NAMES = ['blue', 'db', 'guarded', 'web'];

const policies = [
  ['open', OPEN],
  ['guarded', GUARDED],
]
  .map(
    ([name, port]) => `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ${name} }
spec:
  podSelector: { matchLabels: { app: db } }
  policyTypes: [Ingress]
  ingress: [{ ports: [{ port: ${port} }] }]
---
`,
  )
  .join('');

/** Tries to connect all the time, until its input ends; prints how often, and how often that was possible. */
const knocker = `
import json, socket, sys, threading
tried, opened, over = [0], [0], threading.Event()
def knock():
    while not over.is_set():
        s = socket.socket(); s.settimeout(0.2); tried[0] += 1
        try: s.connect((sys.argv[1], int(sys.argv[2]))); opened[0] += 1
        except OSError: over.wait(0.005)
        s.close()
threads = [threading.Thread(target=knock) for _ in range(8)]
for thread in threads: thread.start()
print('ready', flush=True)
sys.stdin.read(); over.set()
for thread in threads: thread.join()
print(json.dumps([tried[0], opened[0]]), flush=True)
`;

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const { lab, etcd, a, b, web, db, dbIp } = await twoHostsOnEtcd(openLab(t), datapath);
    await b.run('label', 'endpoint', 'db', 'app=db');
    for (const port of [OPEN, GUARDED]) await db.start(python('exchange.py', 'serve', port)).says('ready');
    const file = join(lab.directory, 'policies.yaml');
    writeFileSync(file, policies);
    await a.run('apply', '-f', file, '--wait');
    const canOpen = async (port: number): Promise<boolean> =>
      (await web.attempt(['python3', '-c', `import socket; socket.create_connection(('${dbIp}', ${port}), 1)`]))
        .code === 0;
    t.same([await canOpen(OPEN), await canOpen(GUARDED)], [true, true]);
    const established = web.start(python('exchange.py', 'ask', dbIp, OPEN, CONNECTIONS));
    await established.says('ready');
    const endpoints = async () =>
      (await b.client.endpoints()).map(({ name, addresses, mac, host, state }) => ({
        name,
        addresses,
        mac,
        host,
        state,
      }));
    const before = await endpoints();
    const kept: string[] = [];
    for (const key of KEYS) kept.push((await etcd.ctl(['get', key, '--print-value-only'])).trim());

    const damage = async (garbage: unknown): Promise<void> => {
      for (const [n, key] of KEYS.entries()) {
        const record = JSON.parse(kept[n]!) as { readonly resource: { readonly kind: string; readonly spec: object } };
        const { resource } = record;
        // Whom it selects can be read: it is closed for nobody else.
        const policy = { ...record, resource: { ...resource, spec: { ...resource.spec, ingress: garbage } } };
        await etcd.ctl(['put', key, JSON.stringify(resource.kind === 'NetworkPolicy' ? policy : garbage)]);
      }
    };
    await damage('garbage');
    const refused = async (weft: typeof b) => (await weft.status()).refusedRecords.map(({ name }) => name).toSorted();
    for (const weft of [a, b]) {
      await until(async () => (await refused(weft)).length === KEYS.length, { what: 'the damage to be seen' });
    }
    await until(async () => !(await canOpen(GUARDED)), { what: 'the policy to be closed' });
    const knocking = web.start(['python3', '-c', knocker, dbIp, String(GUARDED)]);
    await knocking.says('ready');

    const isAsBefore = async (how: string): Promise<void> => {
      t.same(await refused(b), NAMES, how);
      await until(async () => (await endpoints()).every(({ state }) => state !== 'waiting'), { what: 'the endpoints' });
      t.same(await endpoints(), before, how);
      await until(() => canOpen(OPEN), { what: `a new connection: ${how}` });
      const { broken, exchanges } = await exchanged(established);
      t.same(broken, [], how);
      t.ok(exchanges > 0, how);
    };
    await isAsBefore('damaged');
    await b.kill();
    await b.start();
    await isAsBefore('killed');
    await b.takeOver();
    await isAsBefore('taken over');
    await etcd.kill();
    await b.kill();
    await b.start();
    t.match(b.log(), /the copy of the cluster’s state is put into force/);
    await isAsBefore('without the store');
    await etcd.start();
    await until(async () => (await b.status()).sharedStore?.reachable === true, { what: 'the store' });
    await b.kill();
    await damage({ resource: {} });
    await b.start();
    await isAsBefore('damaged otherwise while it was down');

    knocking.end();
    await knocking.exited;
    const [tried, opened] = JSON.parse(knocking.lines.at(-1)!.text) as [number, number];
    t.ok(tried > 100, `${tried} attempts`);
    t.equal(opened, 0, 'nothing that the policy is closed for');

    for (const [n, key] of KEYS.entries()) await etcd.ctl(['put', key, kept[n]!]);
    await until(async () => (await refused(b)).length === 0, { what: 'it to be mended' });
    await until(() => canOpen(GUARDED), { what: 'the policy to be open' });
    t.same(await endpoints(), before);
  });
}

await t.test('an endpoint of which nothing is in force is not attached anew', { skip: needsRoot }, async (t) => {
  const { etcd, a, lab } = await twoHostsOnEtcd(openLab(t));
  await etcd.ctl(['put', 'weft/state/endpoints/default/new', '"garbage"']);
  await until(async () => (await a.status()).refusedRecords.length === 1, { what: 'the record to be seen' });
  const box = await lab.namespace('box');
  const attach = () => a.attempt('attach', 'new', '--network', 'blue', '--netns', box.name);
  t.match(await attach(), {
    code: 1,
    stderr: /^weft: endpoint "new" waits: it is no JSON object.*: apply it again, or delete it\n$/,
  });
  await a.run('detach', 'new');
  t.equal((await attach()).code, 0);
});

await t.test('endpoints come and go in a network whose record is damaged', { skip: needsRoot }, async (t) => {
  const { etcd, a, b, web, lab } = await twoHostsOnEtcd(openLab(t));
  await etcd.ctl(['put', KEYS[0]!, '"garbage"']);
  const isSeen = (weft: typeof b) =>
    until(async () => (await weft.status()).refusedRecords.length === 1, { what: 'the record to be seen' });
  await isSeen(a);
  await isSeen(b);
  await b.kill();
  await b.start();
  await isSeen(b);
  const [detached, gone] = [await lab.namespace('one'), await lab.namespace('two')];
  for (const [name, namespace] of [
    ['one', detached],
    ['two', gone],
  ] as const) {
    const { addresses } = await b.attach(namespace, { name, network: 'blue', arguments: ['--wait'] });
    await ping(web, addresses[0]!);
  }
  await b.run('detach', 'one');
  await lab.removeNamespace(gone);
  const left = async () => (await a.client.endpoints()).map(({ name }) => name).toSorted();
  await until(async () => (await left()).join() === 'db,web', { what: 'both to be gone, also from the store' });
  for (const weft of [a, b]) t.match((await weft.status()).refusedRecords, [{ name: 'blue' }]);
});
