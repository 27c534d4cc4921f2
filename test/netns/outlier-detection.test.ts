/**
 *   ┌ host ────────────────────────────────────┐
 *   │ client ── weft ─┬─ one, two, three       │     service web: TCP 80, with a DestinationRule that ejects
 *   └──────────────────────────────────────────┘
 *
 * A backend that is killed, or whose packets are lost, gets no more connections for a while. How many fail before: that is
 * measured by `test/long/mesh.ts`.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { ServiceBackendReport, ServiceReport } from '../../src/model/service-report.ts';
import { openLab } from '../support/lab.ts';
import { until, type Background } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { attachContainer, overlay } from '../support/topology.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(300_000);
t.jobs = datapathKinds.length;

const VIP = '10.96.0.80';
const CONSECUTIVE = 3;

/** Says its name to whoever connects. */
const server = `
import socket, sys
s = socket.create_server(('0.0.0.0', 8080), backlog=128)
print('listening', flush=True)
while True:
    c = s.accept()[0]
    try: c.sendall(sys.argv[1].encode())
    except OSError: pass
    c.close()
`;

/** Connects 100 times a second until it is told to stop, then says who has answered how often, and how many have failed. */
const visitor = `
import collections, json, socket, sys, threading, time
counts = collections.Counter(); lock = threading.Lock(); stop = threading.Event()
def visit():
    try:
        with socket.create_connection((sys.argv[1], 80), timeout=10) as c: who = c.recv(64).decode() or 'empty'
    except OSError: who = 'failed'
    with lock: counts[who] += 1
def run():
    next = time.monotonic()
    while not stop.is_set():
        threading.Thread(target=visit, daemon=True).start()
        next += 0.01; time.sleep(max(0, next - time.monotonic()))
threading.Thread(target=run, daemon=True).start()
for line in sys.stdin:
    with lock: print(json.dumps(counts), flush=True); counts.clear()
`;

const manifests = `
apiVersion: v1
kind: Service
metadata: { name: web, annotations: { weft.dev/balancing: round-robin } }
spec: { selector: { app: web }, clusterIP: ${VIP}, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web }
spec:
  host: web
  trafficPolicy:
    outlierDetection: { consecutiveLocalOriginFailures: ${CONSECUTIVE}, baseEjectionTime: 4s, maxEjectionPercent: 50 }
`;

for (const datapath of datapathKinds) {
  t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    const weft = await Weft.up(lab, host, 'host', { datapath });
    await weft.createNetwork(overlay.create);
    const client = await attachContainer(lab, weft, 'client', 11);
    const names = ['one', 'two', 'three'] as const;
    const containers = await Promise.all(
      names.map((name, at) => attachContainer(lab, weft, name, 12 + at, ['--label', 'app=web'])),
    );
    const listen = async (at: number): Promise<Background> => {
      const program = containers[at]!.namespace.start(['python3', '-u', '-c', server, names[at]!]);
      await program.says('listening');
      return program;
    };
    const [one] = await Promise.all(names.map((_, at) => listen(at)));
    const file = join(lab.directory, 'web.yaml');
    writeFileSync(file, manifests);
    await weft.run('apply', '-f', file);
    const visiting = client.namespace.start(['python3', '-u', '-c', visitor, VIP]);
    /** What has happened since the last time. */
    const visits = async (): Promise<Record<string, number>> => {
      const { length } = visiting.lines;
      visiting.write('report\n');
      await until(() => visiting.lines.length > length, { what: 'visits are reported' });
      return JSON.parse(visiting.lines[length]!.text) as Record<string, number>;
    };
    const stateOfOne = async (): Promise<ServiceBackendReport> =>
      ((await weft.json('services', 'web')) as ServiceReport).backends.find(
        ({ endpoint }) => endpoint === 'default/one',
      )!;
    const isEjected = async (): Promise<ServiceBackendReport | undefined> => {
      const backend = await stateOfOne();
      return backend.state === 'ejected' ? backend : undefined;
    };
    const isReady = async (): Promise<boolean> => (await stateOfOne()).state === 'ready';
    /** Waits until it has answered so often since then. */
    const answered = async (name: string, times: number): Promise<number> => {
      let [failed, sum] = [0, 0];
      await until(
        async () => {
          const counted = await visits();
          failed += counted.failed ?? 0;
          return (sum += counted[name] ?? 0) >= times;
        },
        { what: `${name} answers ${times} times` },
      );
      return failed;
    };

    await t.test('a backend that is killed is ejected', async (t) => {
      for (const name of names) await answered(name, 20);
      await one!.stop('SIGKILL');
      const ejected = await until(isEjected, { what: 'it is ejected' });
      t.match(ejected.why, /^\d+ connections refused, until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
      const failed = await answered('two', 50);
      t.comment(`${failed} connections failed`);
      t.ok(failed >= CONSECUTIVE, 'not before that');
      // It may be back, and out again, by the time that a command has an answer.
      const isShown = async (): Promise<boolean> =>
        /one +.*ejected.*(refused|no answer to \d+ connections), until/.test(await weft.run('services', 'web'));
      await until(isShown, { what: 'it is shown as ejected' });
      await until(async () => (await weft.status()).health.ejected === 1, { what: 'it is counted' });
    });

    await t.test('it is back when its time is over, and listens again', async (t) => {
      await listen(0);
      await until(isReady, { what: 'it is back' });
      await answered('one', 20);
      t.match((await weft.status()).health, { ejected: 0 });
    });

    await t.test('a backend whose packets are lost is ejected, and back when they arrive', async (t) => {
      const [{ namespace }] = containers as [(typeof containers)[0]];
      await namespace.run([
        'nft',
        `table ip lost {
          chain in { type filter hook input priority 0
            tcp dport 8080 drop
          }
        }`,
      ]);
      const ejected = await until(isEjected, { what: 'it is ejected' });
      t.match(ejected.why, /^no answer to \d+ connections, until /);
      await namespace.run(['nft', 'delete table ip lost']);
      await until(isReady, { what: 'it is back' });
      await answered('one', 20);
    });
    await visiting.stop('SIGKILL');
  });
}
