/**
 *   ┌ host ─────────────────────────────────────────────────────┐
 *   │ client (shop) ── weft ─┬─ one    (shop; v1, rack a)       │     service shop/web: TCP 80 → 8080, to one and two
 *   │                        ├─ two    (shop; v2, rack b)       │
 *   │                        └─ theirs (theirs; another tenant) │
 *   └───────────────────────────────────────────────────────────┘
 *
 * The hooks of examples/hooks, one after the other, with real programs.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { overlay, overlayIps } from '../support/topology.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(300_000);

/** Says its name to everybody who comes to one of these ports. */
const server = `
import socket, sys, threading
def answer(s):
    while True:
        c, _ = s.accept(); c.sendall(sys.argv[1].encode()); c.close()
for port in (80, 8080, 2222):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('0.0.0.0', port)); s.listen(128)
    threading.Thread(target=answer, args=(s,)).start()
print('listening', flush=True)
`;
/** Prints who has answered, of so many connections. */
const client = `
import socket, sys
for _ in range(int(sys.argv[3])):
    try:
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[4])); print(s.recv(64).decode())
    except ConnectionRefusedError: print('refused')
    except OSError: print('no')
`;

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const weft = await Weft.up(lab, await lab.namespace('host'), 'host', { datapath });
    await weft.createNetwork(overlay.create);
    const file = join(lab.directory, 'manifests.json');
    const apply = (...resources: readonly object[]): Promise<string> => {
      writeFileSync(file, resources.map((one) => JSON.stringify(one)).join('\n---\n'));
      return weft.run('apply', '-f', file);
    };
    const namespace = (name: string, labels: object) => ({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, labels },
    });
    const example = (name: string): object => {
      const source = readFileSync(new URL(`../../examples/hooks/${name}.ts`, import.meta.url), 'utf8');
      return { apiVersion: 'weft.dev/v1', kind: 'Hook', metadata: { name }, spec: { source } };
    };
    await apply(namespace('shop', { tenant: 'acme', plan: 'trial' }), namespace('theirs', { tenant: 'umbrella' }), {
      ...{ apiVersion: 'v1', kind: 'Service', metadata: { name: 'web', namespace: 'shop' } },
      spec: { clusterIP: '10.96.0.80', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] },
    });
    const attach = async (name: string, at: number, namespaceName: string, labels: readonly string[] = []) => {
      const inside = await lab.namespace(name);
      const [ip4] = overlayIps(at);
      const words = ['-n', namespaceName, '--ip', ip4, ...labels.flatMap((label) => ['--label', label])];
      await weft.attach(inside, { name, network: overlay.network, arguments: words });
      return { inside, ip4 };
    };
    const { inside } = await attach('client', 12, 'shop');
    const servers = {
      one: await attach('one', 13, 'shop', ['app=web', 'version=v1', 'rack=a']),
      two: await attach('two', 14, 'shop', ['app=web', 'version=v2', 'rack=b']),
      theirs: await attach('theirs', 15, 'theirs'),
    };
    for (const [name, { inside: of }] of Object.entries(servers))
      await of.start(['python3', '-u', '-c', server, name]).says('listening');
    const ask = async (address: string, port: number, times = 1, waitS = 20): Promise<string[]> =>
      (await inside.run(['python3', '-c', client, address, String(port), String(times), String(waitS)]))
        .trim()
        .split('\n');
    const label = (...labels: string[]): Promise<string> => weft.run('label', 'ep', 'shop/client', ...labels);
    await until(async () => (await ask('10.96.0.80', 80)).join() !== 'refused', { what: 'the service has backends' });

    await t.test('canary', async (t) => {
      await apply(example('canary'));
      t.same(new Set(await ask('10.96.0.80', 80, 20)), new Set(['one']));
      await label('canary=true');
      t.same(new Set(await ask('10.96.0.80', 80, 20)), new Set(['two']));
      await weft.run('delete', 'hook', 'canary');
      t.same(new Set(await ask('10.96.0.80', 80, 100)), new Set(['one', 'two']));
    });

    await t.test('fence', async (t) => {
      await apply(example('fence'));
      await label('zone=eu');
      t.same(await ask(servers.one.ip4, 80), ['one']);
      t.same(await ask('203.0.113.9', 80), ['refused']);
      await label('zone-');
      await weft.run('delete', 'hook', 'fence');
    });

    await t.test('tenants', async (t) => {
      t.same(await ask(servers.theirs.ip4, 80), ['theirs']);
      await apply(example('tenants'));
      t.same(await ask(servers.theirs.ip4, 80, 1, 1), ['no']);
      t.same(await ask(servers.one.ip4, 80), ['one']);
      t.same(await ask(servers.one.ip4, 2222, 1, 1), ['no'], 'a trial');
      await apply(namespace('shop', { tenant: 'acme' }));
      t.same(await ask(servers.one.ip4, 2222), ['one']);
      await apply(namespace('theirs', { tenant: 'shared' }));
      t.same(await ask(servers.theirs.ip4, 80), ['theirs']);
      await weft.run('delete', 'hook', 'tenants');
    });

    await t.test('balancer', async (t) => {
      await apply(example('balancer'));
      await label('rack=a');
      const got = await ask('10.96.0.80', 80, 100);
      const near = got.filter((name) => name === 'one').length;
      t.equal(near + got.filter((name) => name === 'two').length, 100);
      t.ok(near > 20 && near < 80, `${near} of 100 to the one in the rack`);
      t.match((await weft.status()).hooks, [{ name: 'balancer', failures: 0, quarantines: 0 }]);
    });
  });
}
