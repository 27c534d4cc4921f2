/**
 *   ┌ a ────────────────┐   ┌ b ───────────────┐
 *   │ weft ─┬─ one      │   │ weft ── client   │     services web (checked by HTTP) and raw (by TCP), each
 *   │       └─ two      │   │                  │     of whose backends a checks
 *   └───────────────────┘   └──────────────────┘
 *
 * Backends whose checks fail get no new connections, on no host, until their checks succeed again.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { ServiceReport } from '../../src/model/service-report.ts';
import { etcdCluster } from '../support/cluster.ts';
import { openLab } from '../support/lab.ts';
import { until, type Background } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { datapathKinds, type Weft } from '../support/weft.ts';

t.setTimeout(300_000);
t.jobs = datapathKinds.length;

const VIP = { web: '10.96.0.80', raw: '10.96.0.81' };

/** Answers every request with its name, and with status 503 while the file exists. */
const server = `
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists(sys.argv[2]) and self.path == '/healthz' else 200)
        self.end_headers()
        self.wfile.write(sys.argv[1].encode())
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer.request_queue_size = 64
s = http.server.ThreadingHTTPServer(('0.0.0.0', 8080), Handler)
print('listening', flush=True)
s.serve_forever()
`;

/** Asks so many times, and says who has answered. */
const asker = `
import sys, urllib.request
names = set()
for i in range(int(sys.argv[2])):
    try: names.add(urllib.request.urlopen('http://' + sys.argv[1] + '/', timeout=2).read().decode())
    except OSError as e: names.add(type(e).__name__)
print(' '.join(sorted(names)))
`;

const service = (name: keyof typeof VIP, annotations: Readonly<Record<string, string>>): string =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name,
      annotations: {
        'weft.dev/health-check-interval': '2s',
        'weft.dev/health-check-timeout': '2s',
        'weft.dev/health-check-failures': '2',
        ...annotations,
      },
    },
    spec: { selector: { app: 'web' }, clusterIP: VIP[name], ports: [{ port: 80, targetPort: 8080 }] },
  });

for (const datapath of datapathKinds) {
  t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const cluster = await etcdCluster(lab, 2);
    const [a, b] = (await cluster.up(datapath)) as [Weft, Weft];
    await a.createNetwork('blue --subnet 10.44.0.0/24');
    const attach = async (weft: Weft, name: string, ...more: string[]) => {
      const namespace = await lab.namespace(name);
      await weft.attach(namespace, { name, network: 'blue', arguments: more });
      return namespace;
    };
    const backends = {
      one: await attach(a, 'one', '--label', 'app=web'),
      two: await attach(a, 'two', '--label', 'app=web'),
    };
    const client = await attach(b, 'client');
    const sick = (name: keyof typeof backends): string => join(lab.directory, `${name}-${datapath}.sick`);
    const listen = async (name: keyof typeof backends): Promise<Background> => {
      const program = backends[name].start(['python3', '-u', '-c', server, name, sick(name)]);
      await program.says('listening');
      return program;
    };
    let one = await listen('one');
    await listen('two');
    const file = join(lab.directory, 'services.yaml');
    writeFileSync(
      file,
      [
        service('web', { 'weft.dev/health-check': 'http', 'weft.dev/health-check-path': '/healthz' }),
        service('raw', { 'weft.dev/health-check': 'tcp', 'weft.dev/health-check-port': '8080' }),
      ].join('\n---\n'),
    );
    await a.run('apply', '-f', file, '--wait=30s');

    const said = async (weft: Weft, name: string): Promise<string[]> => {
      const { backends: all } = (await weft.json('services', name)) as ServiceReport;
      return all.map(({ state, why }) => (why === undefined ? state : `${state}: ${why}`));
    };
    const says = (weft: Weft, name: string, expected: readonly string[]): Promise<unknown> =>
      until(async () => JSON.stringify(await said(weft, name)) === JSON.stringify(expected), {
        what: `${name}: ${expected.join('; ')}`,
      });
    const ask = async (name: keyof typeof VIP): Promise<string> =>
      (await client.run(['python3', '-c', asker, VIP[name], '24'])).trim();

    await t.test('backends that answer are checked, and stay', async (t) => {
      await until(async () => (await a.status()).health.checked === 4, { what: 'two of each service are checked' });
      for (const weft of [a, b]) for (const name of ['web', 'raw']) await says(weft, name, ['ready', 'ready']);
      t.same((await b.status()).health, { checked: 0, failing: 0, ejected: 0, ejections: 0 }, 'only by its own host');
      t.equal(await ask('web'), 'one two');
    });

    await t.test('a status of 503 takes a backend out on all hosts, for this service only', async (t) => {
      writeFileSync(sick('one'), '');
      await says(a, 'web', ['check failed: HTTP port 8080: status 503', 'ready']);
      await says(b, 'web', ['check failed: HTTP port 8080: status 503, says host a', 'ready']);
      t.equal(await ask('web'), 'two');
      t.equal(await ask('raw'), 'one two');
      t.equal((await a.status()).health.failing, 1);
    });

    await t.test('that holds when its daemon is killed and starts again', async (t) => {
      await a.kill();
      await a.start();
      await until(async () => (await a.status()).health.failing === 1, { what: 'it is found out again' });
      await says(b, 'web', ['check failed: HTTP port 8080: status 503, says host a', 'ready']);
      t.equal(await ask('web'), 'two');
      rmSync(sick('one'));
      for (const weft of [a, b]) await says(weft, 'web', ['ready', 'ready']);
      t.equal(await ask('web'), 'one two');
    });

    await t.test('a port where nobody listens any more, and somebody again', async (t) => {
      await one.stop('SIGKILL');
      await says(a, 'raw', ['check failed: TCP port 8080: refused', 'ready']);
      for (const name of ['web', 'raw'])
        await says(b, name, [
          `check failed: ${name === 'web' ? 'HTTP' : 'TCP'} port 8080: refused, says host a`,
          'ready',
        ]);
      t.equal(await ask('raw'), 'two');
      t.match(await b.run('services', 'raw'), /one +10\.44\.0\.\d+ .*check failed.*refused, says host a/);
      one = await listen('one');
      for (const weft of [a, b]) for (const name of ['web', 'raw']) await says(weft, name, ['ready', 'ready']);
      t.equal(await ask('raw'), 'one two');
    });

    await t.test('a service that asks for no checks any more is as if there had been none', async (t) => {
      writeFileSync(sick('one'), '');
      await says(b, 'web', ['check failed: HTTP port 8080: status 503, says host a', 'ready']);
      await a.run('delete', 'service', 'web');
      await until(async () => (await a.status()).health.checked === 2, { what: 'those of raw are checked' });
      t.equal((await a.status()).health.failing, 0);
    });
  });
}
