/**
 *   ┌ host ───────────────────────────────────────────────────┐
 *   │ web  (namespace shop, app: web)   ─┐                    │     db answers on TCP ports 9000 and 9001,
 *   │ other (namespace shop)            ─┼─ weft ── db (shop) │     IPv4 and IPv6
 *   │ guest (namespace ops)             ─┤                    │
 *   │ cron (namespace shop)             ─┘                    │
 *   └─────────────────────────────────────────────────────────┘
 *
 * Before each change, they open connections to db, as far as policies let them. `weft diff` says which of them it would end, and which
 * conversations it would allow or deny; when it is applied, it ends exactly these. cron was there an hour ago. `weft policy test` and
 * `weft apply` hold what is proposed against PolicyTests.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { ClassChangeReport, DiffReport } from '../../src/model/policy-report.ts';
import { openLab } from '../support/lab.ts';
import { run, until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { overlay, overlayIps } from '../support/topology.ts';
import { Weft } from '../support/weft.ts';
import { changes, clientsOf, namespace, policy, serveDb } from '../support/what-if.ts';
import { withClock } from '../support/shifted-clock.ts';

t.setTimeout(600_000);

const HOUR_S = 3600;
const isCron = ({ from }: ClassChangeReport): boolean => from.endpoint === 'shop/cron';

await t.test('what-if', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const weft = await Weft.up(lab, host, 'host', { datapath: 'native' });
  await weft.createNetwork(overlay.create);
  const file = join(lab.directory, 'proposed.json');
  const write = (...resources: readonly object[]): void =>
    writeFileSync(file, resources.map((one) => JSON.stringify(one)).join('\n---\n'));
  write(namespace('shop'), namespace('ops'));
  await weft.run('apply', '-f', file);
  const attach = async (name: string, at: number, ...more: string[]) => {
    const inside = await lab.namespace(name);
    const [ip4, ip6] = overlayIps(at);
    await weft.attach(inside, { name, network: overlay.network, arguments: [...more, '--ip', ip4, '--ip', ip6] });
    return { inside, ip4, ip6 };
  };
  const db = await attach('db', 12, '-n', 'shop', '--label', 'app=db');
  const clients = [
    await attach('web', 13, '-n', 'shop', '--label', 'app=web'),
    await attach('other', 14, '-n', 'shop'),
    await attach('guest', 15, '-n', 'ops'),
  ];
  await serveDb(db.inside);
  const cron = await attach('cron', 16, '-n', 'shop', '--label', 'app=cron');
  const reachDb = `import socket; socket.create_connection(('${db.ip4}', 9001), 60).close()`;
  await run(cron.inside.inside(['python3', '-c', reachDb]));
  const again = clientsOf(
    clients.map(({ inside }) => inside),
    [db.ip4, db.ip6],
  );

  const resources = async (): Promise<string> => weft.run('get', 'netpol', '-A', '-o', 'json');
  const diff = async (): Promise<DiffReport> => (await weft.json('diff', '-f', file)) as DiffReport;
  /** Those that are open, each as `FROM ADDRESS PORT`. */
  const open = async (): Promise<string[]> =>
    (await weft.client.connections())
      .filter(({ state, protocol }) => state === 'established' && protocol === 'tcp')
      .map(({ from, source, destination }) => {
        const port = destination.slice(destination.lastIndexOf(':') + 1);
        return `${from} ${source.slice(0, source.lastIndexOf(':')).replaceAll(/[[\]]/g, '')} ${port}`;
      })
      .sort();
  const without = (all: readonly string[], some: readonly string[]): string[] => {
    const left = [...some];
    return all.filter((one) => {
      const at = left.indexOf(one);
      if (at >= 0) left.splice(at, 1);
      return at < 0;
    });
  };
  const opened = async (): Promise<string[]> => {
    const count = (await again()).flat().length;
    await until(async () => (await open()).length === count, { what: `${count} connections are established` });
    return open();
  };
  const keyOf = ({ from, port }: Pick<ClassChangeReport, 'from' | 'port'>): string =>
    `${from.endpoint} ${from.address} ${port}`;

  let [ended, before] = [0, await opened()];
  t.equal(before.length, 24);
  t.equal(changes.length, 20);
  for (const [what, ...change] of changes) {
    await t.test(`ended is what was predicted: ${what}`, async (t) => {
      write(...(await Promise.all(change.map((one) => (typeof one === 'function' ? one(weft) : one)))));
      const { connections, flowClasses } = await diff();
      t.same(await open(), before, 'nothing is changed');
      t.ok(connections.live >= before.length);
      const predicted = connections.ended.flatMap((one) => Array<string>(one.connections).fill(keyOf(one))).sort();
      ended += predicted.length;
      const changed = flowClasses.changed.filter(({ protocol }) => protocol === 'tcp');
      const denied = new Set(changed.filter(({ verdict }) => verdict === 'deny').map(keyOf));
      t.same(
        predicted.filter((key) => !denied.has(key)),
        [],
        'what would end is among the flow classes, too',
      );
      await weft.run('apply', '-f', file);
      await until(async () => (await open()).length === before.length - predicted.length, {
        what: `the end of ${predicted.length}`,
      });
      t.same(await open(), without(before, predicted));
      t.match(
        await diff(),
        { resources: [], connections: { ended: [] }, flowClasses: { changed: [] } },
        'and nothing more',
      );
      before = await opened();
      const reached = new Set(before);
      const wrong = changed.filter((one) => !isCron(one) && reached.has(keyOf(one)) !== (one.verdict === 'allow'));
      t.same(wrong, [], 'conversations like those are allowed or denied as predicted');
    });
  }
  t.ok(ended >= 40, `${ended} connections were ended`);

  await t.test('cron was there an hour ago', async (t) => {
    const nobody = { podSelector: { matchLabels: { app: 'none' } } };
    write(
      policy('db', { podSelector: { matchLabels: { app: 'db' } }, ingress: [{}] }),
      policy('all', nobody),
      policy('none', nobody),
    );
    await weft.run('apply', '-f', file);
    write(policy('db', { podSelector: { matchLabels: { app: 'db' } }, ingress: [] }));
    await weft.stop();
    const later = await Weft.up(lab, host, 'host', { datapath: 'native', within: withClock(lab, HOUR_S) });
    const crons = async (): Promise<ClassChangeReport[]> => (await diff()).flowClasses.changed.filter(isCron);
    const [one, ...others] = await crons();
    t.same(others, []);
    t.match(one, {
      to: { endpoint: 'shop/db' },
      port: 9001,
      before: 'allow',
      verdict: 'deny',
      opened: 1,
      covers: 'exact',
    });
    const agoS = Date.now() / 1000 + HOUR_S - Date.parse(one!.lastSeen) / 1000;
    t.ok(agoS > HOUR_S && agoS < 1.5 * HOUR_S, `${agoS} s ago`);
    await later.run('detach', 'cron', '-n', 'shop');
    t.match(await crons(), [{ from: { endpoint: 'shop/cron', gone: true }, verdict: 'deny' }], 'also when it has gone');
    await later.stop();
    await weft.start();
    const known = async () => (await crons()).map(({ opened: count, from }) => [count, from.gone]);
    t.same(await known(), [[1, true]]);
    await weft.takeOver();
    t.same(await known(), [[1, true]], 'the daemon that takes over knows it from the one before');
    write(policy('db', { podSelector: { matchLabels: { app: 'db' } }, ingress: [{}] }));
    await weft.run('apply', '-f', file);
  });

  await t.test('policy tests: the cluster’s DNS, and what breaks one', async (t) => {
    const test = (name: string, spec: object) => ({
      apiVersion: 'weft.dev/v1',
      kind: 'PolicyTest',
      metadata: { name, namespace: 'shop' },
      spec: { from: { endpoint: 'web' }, protocol: 'UDP', port: 53, expect: 'allow', ...spec },
    });
    const gateway = '10.44.0.1';
    const dns = { namespaceSelector: {}, podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } } };
    const out = (...to: readonly object[]) =>
      policy('web', {
        podSelector: { matchLabels: { app: 'web' } },
        policyTypes: ['Egress'],
        egress: to.length === 0 ? [] : [{ to }],
      });
    write(
      out(dns),
      test('dns', { to: { address: gateway } }),
      test('no-ping', { to: { address: gateway }, port: 54, expect: 'deny' }),
    );
    t.match(await weft.json('policy', 'test', '-f', file), [
      { name: 'dns', result: 'passed', packets: 1 },
      { name: 'no-ping', result: 'passed', packets: 1 },
    ]);
    t.same(JSON.parse(await weft.run('get', 'pt', '-A', '-o', 'json')).items ?? [], [], 'they are not declared');
    await weft.run('apply', '-f', file);
    t.match(await weft.run('get', 'policytests', '-n', 'shop'), /dns +.*web +10\.44\.0\.1 +udp\/53 +allow/);

    write(out());
    const [before, failed] = [await resources(), await weft.attempt('policy', 'test', '-f', file)];
    t.match(failed, {
      code: 1,
      stdout: /shop\/dns: udp from shop\/web \(10.44.0.13\) to 10.44.0.1 port 53 is denied: egress: isolated/,
    });
    t.match(await weft.attempt('apply', '-f', file), {
      code: 1,
      stderr:
        /^weft: policytest "shop\/dns" expects allow, but udp from shop\/web .* would be denied: .*; nothing is changed\n$/,
    });
    t.match(
      await weft.run('diff', '-f', file),
      /spec\.egress: .*\n\nPolicy tests that would fail:\nshop\/dns: udp from/,
    );
    t.match(await weft.attempt('delete', 'netpol', 'web', '-n', 'shop'), {
      code: 1,
      stderr: /"shop\/no-ping" expects deny/,
    });
    t.equal(await resources(), before, 'nothing is changed');
  });

  await t.test('purged, nobody knows who has talked to whom', async (t) => {
    const kept = join(weft.state, 'flow-classes');
    t.ok(existsSync(kept));
    await weft.run('down', '--purge');
    await weft.ended();
    t.notOk(existsSync(kept));
  });
});
