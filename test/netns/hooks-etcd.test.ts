/**
 *   ┌ a ─────────┐   ┌ b ─────────┐
 *   │ web        │   │ db, guest  │     db answers on TCP ports 9000 and 9001
 *   └─ .1 ───────┘   └─ .2 ───────┘
 *         └── 192.0.2.0/24 ──┴── etcd (.100)
 *
 * A Hook that is declared on one host is in force on both: each asks it about what its own endpoints begin. So it is after a start
 * without the store, and until it is deleted.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { etcdCluster } from '../support/cluster.ts';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { overlay, overlayIps } from '../support/topology.ts';
import type { Weft } from '../support/weft.ts';
import { serveDb } from '../support/what-if.ts';

t.setTimeout(300_000);

const client = `
import socket, sys
try: socket.create_connection((sys.argv[1], 9000), 20).close(); print('yes')
except ConnectionRefusedError: print('refused')
except OSError as error: print(type(error).__name__)
`;

await t.test('a hook for all hosts', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const cluster = await etcdCluster(lab, 2);
  const [a, b] = (await cluster.up('native')) as [Weft, Weft];
  await a.createNetwork(overlay.create);
  const attach = async (weft: Weft, name: string, at: number, ...more: string[]) => {
    const inside = await lab.namespace(name);
    const [ip4] = overlayIps(at);
    await weft.attach(inside, { name, network: overlay.network, arguments: [...more, '--ip', ip4, '--wait'] });
    return { inside, ip4 };
  };
  const db = await attach(b, 'db', 12, '--label', 'app=db');
  const web = await attach(a, 'web', 13, '--label', 'app=web');
  const guest = await attach(b, 'guest', 14);
  await serveDb(db.inside);
  const asks = async ({ inside }: { readonly inside: Namespace }): Promise<string> =>
    (await inside.run(['python3', '-c', client, db.ip4])).trim();
  const both = async (): Promise<string[]> => [await asks(web), await asks(guest)];
  const file = join(lab.directory, 'hook.json');
  const apply = async (weft: Weft, body: string): Promise<void> => {
    const source = `import { defineHook, reject } from 'weft';\nexport default defineHook({ name: 'fence', onFlow({ source, destination }) {\n${body}\n} });\n`;
    writeFileSync(
      file,
      JSON.stringify({ apiVersion: 'weft.dev/v1', kind: 'Hook', metadata: { name: 'fence' }, spec: { source } }),
    );
    await weft.run('apply', '-f', file, '--wait=60s');
  };
  t.same(await both(), ['yes', 'yes']);
  await apply(a, `if (destination.labels.app === 'db') return reject('nobody');`);
  t.same(await both(), ['refused', 'refused'], 'each host asks');
  for (const weft of [a, b]) t.match((await weft.status()).hooks, [{ name: 'fence', state: 'in_force' }]);
  await apply(b, `if (destination.labels.app === 'db' && source.labels.app !== 'web') return reject('only web');`);
  t.same(await both(), ['yes', 'refused'], 'by labels, also of an endpoint on another host');
  await cluster.etcd.stop();
  await b.kill();
  await b.start();
  t.same(await both(), ['yes', 'refused'], 'by the copy on the disk');
  await cluster.etcd.start();
  await until(async () => (await a.status()).sharedStore?.reachable, { what: 'the store is back' });
  await a.run('delete', 'hook', 'fence');
  await until(async () => (await both()).join() === 'yes,yes', { what: 'it is gone on both' });
});
