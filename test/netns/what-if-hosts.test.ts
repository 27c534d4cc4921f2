/**
 *   ┌ a ─────────┐   ┌ b ─────────┐
 *   │ web, guest │   │ db, other  │     db answers on TCP ports 9000 and 9001, IPv4 and IPv6
 *   └─ .1 ───────┘   └─ .2 ───────┘
 *         └── 192.0.2.0/24 ──┴── etcd (.100)
 *
 * `weft diff` on one host asks the other one, too: each says which connections it would end, and exactly these end there. A host that
 * does not answer is named, and nothing stays in the store.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { ClassChangeReport, DiffReport } from '../../src/model/policy-report.ts';
import type { ConnectionReport } from '../../src/model/report.ts';
import { etcdCluster } from '../support/cluster.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { overlay, overlayIps } from '../support/topology.ts';
import type { Weft } from '../support/weft.ts';
import { changes, clientsOf, namespace, policy, serveDb } from '../support/what-if.ts';

t.setTimeout(600_000);

await t.test('what-if on two hosts', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const cluster = await etcdCluster(lab, 2);
  const hosts = (await cluster.up('native')) as [Weft, Weft];
  const [a, b] = hosts;
  await a.createNetwork(overlay.create);
  const file = join(lab.directory, 'proposed.json');
  const write = (...resources: readonly object[]): void =>
    writeFileSync(file, resources.map((one) => JSON.stringify(one)).join('\n---\n'));
  write(namespace('shop'), namespace('ops'));
  await a.run('apply', '-f', file, '--wait=60s');
  const attach = async (weft: Weft, name: string, at: number, ...more: string[]) => {
    const inside = await lab.namespace(name);
    const [ip4, ip6] = overlayIps(at);
    const words = [...more, '--ip', ip4, '--ip', ip6, '--wait'];
    await weft.attach(inside, { name, network: overlay.network, arguments: words });
    return { inside, ip4, ip6 };
  };
  const db = await attach(b, 'db', 12, '-n', 'shop', '--label', 'app=db');
  const clients = [
    await attach(a, 'web', 13, '-n', 'shop', '--label', 'app=web'),
    await attach(b, 'other', 14, '-n', 'shop'),
    await attach(a, 'guest', 15, '-n', 'ops'),
  ];
  await serveDb(db.inside);
  const again = clientsOf(
    clients.map(({ inside }) => inside),
    [db.ip4, db.ip6],
  );
  const diff = async (): Promise<DiffReport> => (await a.json('diff', '-f', file)) as DiffReport;
  const established = async (weft: Weft): Promise<ConnectionReport[]> =>
    (await weft.client.connections()).filter(({ state, protocol }) => state === 'established' && protocol === 'tcp');
  /** Those that are open, each as `HOST FROM ADDRESS PORT`: of what goes through both hosts, both know. */
  const open = async (): Promise<string[]> => {
    const all = await Promise.all(
      hosts.map(async (weft, at) =>
        (await established(weft)).map(({ from, source, destination }) => {
          const port = destination.slice(destination.lastIndexOf(':') + 1);
          return `${'ab'[at]} ${from} ${source.slice(0, source.lastIndexOf(':')).replaceAll(/[[\]]/g, '')} ${port}`;
        }),
      ),
    );
    return all.flat().sort();
  };
  const opened = async (): Promise<string[]> => {
    const [web, other, guest] = await again();
    const onA = [...web!, ...guest!].sort();
    const isComplete = async (): Promise<boolean> => {
      const [ofA, ofB] = await Promise.all(
        hosts.map(async (weft) => (await established(weft)).map(({ source }) => source).sort()),
      );
      // b may still have some that only a has ended.
      const lacking = [...onA, ...other!].filter((source) => !ofB!.includes(source));
      if (ofA!.join() === onA.join() && lacking.length === 0) return true;
      const states = (await b.client.connections()).filter(({ source }) => lacking.includes(source));
      throw new Error(
        `a has ${ofA!.join()} of ${onA.join()}; b lacks ${lacking.join()}, and has ${JSON.stringify(states)}`,
      );
    };
    await until(isComplete, { what: 'they are established on both hosts, and others are over' });
    return open();
  };
  const keyOf = ({ host, from, port }: Pick<ClassChangeReport, 'host' | 'from' | 'port'>): string =>
    `${host} ${from.endpoint} ${from.address} ${port}`;

  let before = await opened();
  t.equal(before.length, 24 + 16);
  const ended = { a: 0, b: 0 };
  for (const [what, ...change] of changes) {
    await t.test(`ended is what was predicted: ${what}`, async (t) => {
      write(...(await Promise.all(change.map((one) => (typeof one === 'function' ? one(a) : one)))));
      const { connections, flowClasses, hosts: asked } = await diff();
      t.same(asked, [
        { name: 'a', answered: true },
        { name: 'b', answered: true },
      ]);
      t.same(await open(), before, 'nothing is changed');
      const predicted = new Map(connections.ended.map((one) => [keyOf(one), one.connections]));
      const denied = new Set(flowClasses.changed.filter(({ verdict }) => verdict === 'deny').map(keyOf));
      t.same(
        [...predicted.keys()].filter((key) => !denied.has(key)),
        [],
      );
      for (const [key, count] of predicted) ended[key.startsWith('a ') ? 'a' : 'b'] += count;
      await a.run('apply', '-f', file, '--wait=60s');
      const expected = before.filter((one) => !predicted.has(one));
      await until(async () => (await open()).length === expected.length, { what: 'they have ended' });
      t.same(await open(), expected);
      t.equal(
        before.length - expected.length,
        [...predicted.values()].reduce((sum, count) => sum + count, 0),
      );
      t.match(
        await diff(),
        { resources: [], connections: { ended: [] }, flowClasses: { changed: [] } },
        'and nothing more',
      );
      before = await opened();
    });
  }
  t.ok(ended.a > 0 && ended.b > 0, `ended: ${ended.a} on a, ${ended.b} on b`);

  await t.test('of services, each host says what becomes of its clients', async (t) => {
    const forDb = { podSelector: { matchLabels: { app: 'db' } } };
    const nobody = { podSelector: { matchLabels: { app: 'none' } } };
    const service = (targetPort: number) => ({
      ...{ apiVersion: 'v1', kind: 'Service', metadata: { name: 'db', namespace: 'shop' } },
      spec: { selector: { app: 'db' }, ports: [{ port: 9000, targetPort }] },
    });
    write(policy('db', { ...forDb, ingress: [{}] }), policy('all', nobody), policy('none', nobody), service(9000));
    await a.run('apply', '-f', file, '--wait=60s');
    const { spec } = (await a.json('get', 'svc', 'db', '-n', 'shop')) as {
      readonly spec: { readonly clusterIP: string };
    };
    const { inside } = clients[1]!;
    const [sources] = await clientsOf([inside], [spec.clusterIP])();
    t.equal(sources!.length, 2);
    const left = async () => (await established(b)).filter(({ source }) => sources!.includes(source)).length;
    t.equal(await left(), 2);

    write(service(9001));
    const { services } = await diff();
    const one = {
      host: 'b',
      from: { endpoint: 'shop/other' },
      to: { endpoint: 'shop/db' },
      port: 9000,
      service: 'shop/db',
    };
    t.match(services.ended, [{ ...one, connections: 2 }]);
    t.match(services.changed, [{ ...one, opened: 2, then: [{ endpoint: 'shop/db', port: 9001 }] }]);
    t.equal(await left(), 2);
    await a.run('apply', '-f', file, '--wait=60s');
    await until(async () => (await left()) === 0, { what: 'they have ended' });
  });

  await t.test('a host that does not answer is named, and nothing stays in the store', async (t) => {
    const kept = () => cluster.etcd.ctl(['get', '--prefix', '--keys-only', 'weft/questions/']);
    t.equal((await kept()).trim(), '');
    process.kill(b.pid, 'SIGSTOP');
    t.teardown(() => process.kill(b.pid, 'SIGCONT'));
    const { hosts: asked, connections } = await diff();
    t.match(asked, [
      { name: 'a', answered: true },
      { name: 'b', answered: false, why: /did not answer within|is down/ },
    ]);
    t.ok(connections.live > 0);
    t.match(await a.run('diff', '-f', file), /\nhost "b" has not answered, and what it would do is not among this: /);
    process.kill(b.pid, 'SIGCONT');
    await until(async () => (await kept()).trim() === '', { what: 'nothing is left' });
    await until(async () => (await diff()).hosts.every(({ answered }) => answered), { what: 'b answers again' });
  });
});
