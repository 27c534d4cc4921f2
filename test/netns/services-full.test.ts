/**
 *   ┌ host, with room for 1024 connections ────────┐
 *   │ greedy, other ── weft ── server, a backend   │
 *   └──────────────────────────────────────────────┘
 *
 * A container that opens more connections through a service than it may have is refused at once, and told by whom; those
 * that it has go on, and others get theirs.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { attachContainer, overlay } from '../support/topology.ts';
import { python } from '../support/traffic.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const VIP = '10.96.0.80';
const MOST = 1024;

/** Opens so many connections and keeps them. Says how many are open, how many of them still answer, and why others failed. */
const opener = `
import collections, json, socket, sys
held, failed = [], collections.Counter()
for _ in range(int(sys.argv[2])):
    s = socket.socket(); s.settimeout(60)
    try: s.connect((sys.argv[1], 80)); s.sendall(b'?'); s.recv(64); held.append(s)
    except OSError as e: failed[type(e).__name__] += 1; s.close()
answering = 0
for s in held: s.sendall(b'?'); answering += s.recv(64) == b'server'
print(json.dumps({'held': len(held), 'answering': answering, 'failed': failed}))
sys.stdin.read()
`;

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const config = join(lab.directory, 'weft.yaml');
    writeFileSync(config, `connections: ${MOST}\n`);
    const options = { datapath, arguments: ['--config', config] };
    const weft = await Weft.up(lab, await lab.namespace('host'), 'host', options);
    await weft.createNetwork(overlay.create);
    const greedy = await attachContainer(lab, weft, 'greedy', 11);
    const other = await attachContainer(lab, weft, 'other', 12);
    const server = await attachContainer(lab, weft, 'server', 13, ['--label', 'app=web']);
    await server.namespace.start(python('mesh.py', 'serve', 'server', 8080)).says('ready\n');
    const file = join(lab.directory, 'service.yaml');
    writeFileSync(
      file,
      `apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, clusterIP: ${VIP}, ports: [{ port: 80, targetPort: 8080 }] }
`,
    );
    await weft.run('apply', '-f', file);
    const open = async ({ namespace }: typeof greedy, count: number) => {
      const opening = namespace.start(['python3', '-u', '-c', opener, VIP, String(count)]);
      await until(() => opening.lines.length > 0 || !opening.isRunning, { what: 'it has opened what it can' });
      return JSON.parse(opening.stdout) as { held: number; answering: number; failed: Record<string, number> };
    };
    const { held, answering, failed } = await open(greedy, MOST);
    t.ok(held > 0 && held < MOST, `${held} are open`);
    t.equal(answering, held, 'they go on');
    // An ICMP error, and not the end of a wait.
    t.same(failed, { OSError: MOST - held });
    t.match(await weft.run('drops'), /greedy +connection_limit +\d+ .*has reached its limit of connections/);
    t.same(await open(other, 10), { held: 10, answering: 10, failed: {} }, 'others get theirs');
  });
}
