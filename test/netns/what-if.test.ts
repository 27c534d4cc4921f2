/**
 *   ┌ host ───────────────────────────────────────────────────┐
 *   │ web  (namespace shop, app: web)   ─┐                    │     db answers on TCP ports 9000 and 9001,
 *   │ other (namespace shop)            ─┼─ weft ── db (shop) │     IPv4 and IPv6
 *   │ guest (namespace ops)             ─┘                    │
 *   └─────────────────────────────────────────────────────────┘
 *
 * Each of them has connections open to db. `weft diff` says which of them a change would end, and when it is applied, it ends
 * exactly these. `weft policy test` and `weft apply` hold what is proposed against PolicyTests.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { DiffReport } from '../../src/model/policy-report.ts';
import type { ConnectionReport } from '../../src/model/report.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { overlay, overlayIps } from '../support/topology.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const server = `
import signal, socket
kept = []
for family, address in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    for port in (9000, 9001):
        s = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((address, port)); s.listen(128); kept.append(s)
print('listening', flush=True)
signal.pause()
`;

/** Opens two connections to each address and port, and keeps them. */
const holder = `
import signal, socket, sys
kept = [socket.create_connection((a, p), 60) for a in sys.argv[1:] for p in (9000, 9001) for _ in range(2)]
print('open', flush=True)
signal.pause()
`;

const policy = (name: string, spec: object, namespace = 'shop') => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name, namespace },
  spec: { podSelector: {}, ...spec },
});
const namespace = (name: string, labels: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name, labels },
});
const forDb = { podSelector: { matchLabels: { app: 'db' } } };
const fromShop = { from: [{ podSelector: {} }] };

/** Each is applied after those before it. */
const changes: readonly (readonly [what: string, ...object[]])[] = [
  ['what nobody selects', policy('none', { podSelector: { matchLabels: { app: 'none' } } })],
  ['a port', policy('db', { ...forDb, ingress: [{ ports: [{ port: 9000 }] }, fromShop] })],
  [
    'IPv4 alone',
    policy('web', {
      podSelector: { matchLabels: { app: 'web' } },
      policyTypes: ['Egress'],
      egress: [{ to: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }],
    }),
  ],
  [
    'labels of a namespace',
    policy('db', { ...forDb, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: 'a' } } }] }] }),
    namespace('shop', { team: 'a' }),
  ],
  ['the same again', namespace('shop', { team: 'a' })],
  ['another label', namespace('shop', { team: 'b' })],
];

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
  await db.inside.start(['python3', '-u', '-c', server]).says('listening');
  const holders = clients.map(({ inside }) => inside.start(['python3', '-u', '-c', holder, db.ip4, db.ip6]));
  for (const one of holders) await one.says('open');

  const resources = async (): Promise<string> => weft.run('get', 'netpol', '-A', '-o', 'json');
  /** Those that are open, each as `FROM ADDRESS PORT`. */
  const open = async (): Promise<string[]> =>
    ((await weft.json('connections')) as ConnectionReport[])
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
  await until(async () => (await open()).length === 24, { what: 'all connections are established' });

  for (const [what, ...change] of changes) {
    await t.test(`ended is what was predicted: ${what}`, async (t) => {
      write(...change);
      const [before, declared] = [await open(), await resources()];
      const { connections } = (await weft.json('diff', '-f', file)) as DiffReport;
      t.same([await open(), await resources()], [before, declared], 'nothing is changed');
      t.equal(connections.live, before.length);
      const predicted = connections.ended
        .flatMap(({ from, port, connections: count }) =>
          Array<string>(count).fill(`${from.endpoint} ${from.address} ${port}`),
        )
        .sort();
      await weft.run('apply', '-f', file);
      await until(async () => (await open()).length === before.length - predicted.length, {
        what: `the end of ${predicted.length}`,
      });
      t.same(await open(), without(before, predicted));
      t.match(await weft.json('diff', '-f', file), { resources: [], connections: { ended: [] } }, 'and nothing more');
    });
  }
  t.same(await open(), [], 'all of them have been ended by then');

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
});
