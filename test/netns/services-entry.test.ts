/**
 *   ┌ a ──────┐  ┌ b ───────────┐  ┌ client ┐
 *   │  weft   │  │  weft ── web │  │        │
 *   └── .1 ───┘  └── .2 ────────┘  └─ .50 ──┘
 *        └── 192.0.2.0/24, 2001:db8::/64 ─┴──── etcd (.100)
 *
 * A client outside asks host a for a service whose only backend is on host b.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { ConnectionReport } from '../../src/model/report.ts';
import { transit } from '../../src/outside/link.ts';
import { isAnswered, seenAs, tellPeer } from '../outside/place.ts';
import { etcdCluster } from '../support/cluster.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { attachContainer, overlay, underlayLink } from '../support/topology.ts';
import { python } from '../support/traffic.ts';
import { datapathKinds, type DatapathKind } from '../support/weft.ts';

t.setTimeout(600_000);
t.jobs = datapathKinds.length;

const entry = { 4: '192.0.2.1', 6: '2001:db8::1' } as const;
const backendHost = { 4: '192.0.2.2', 6: '2001:db8::2' } as const;
const clientIp = { 4: '192.0.2.50', 6: '2001:db8::50' } as const;
const families = [4, 6] as const;
const LARGE_BYTES = 300_000;

const service = (selector: string, more = ''): string => `
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  type: NodePort
  selector: { app: ${selector} }
  ipFamilyPolicy: RequireDualStack
  ${more}
  ports:
    - { name: http, port: 80, targetPort: 8080, nodePort: 30080 }
    - { name: dns, port: 53, targetPort: 5353, protocol: UDP, nodePort: 30053 }
`;

function byAnotherHost(datapath: DatapathKind): void {
  t.test(`from outside to a backend of another host, ${datapath}`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const cluster = await etcdCluster(lab, 2);
    const [hostA, hostB] = cluster.hosts.map(({ namespace }) => namespace) as [
      (typeof cluster)['wire'],
      (typeof cluster)['wire'],
    ];
    const client = await lab.namespace('client');
    await lab.cable(client, 'eth0', cluster.wire, 'to-client');
    await cluster.wire.ip('link set to-client master br0');
    await client.ip(`address add ${clientIp[4]}/24 dev eth0`);
    await client.ip(`address add ${clientIp[6]}/64 dev eth0 nodad`);
    await hostA.ip(`address add ${entry[6]}/64 dev ${underlayLink} nodad`);
    await hostB.ip(`address add ${backendHost[6]}/64 dev ${underlayLink} nodad`);
    const [a, b] = (await cluster.up(datapath)) as [
      Awaited<ReturnType<typeof cluster.up>>[0],
      Awaited<ReturnType<typeof cluster.up>>[0],
    ];
    await a.createNetwork(`${overlay.create} --outside`);
    const hasNetwork = async (): Promise<boolean> => (await b.client.networks()).length > 0;
    await until(hasNetwork, { what: 'host b has the network' });
    const web = await attachContainer(lab, b, 'web', 11, ['--label', 'app=web']);
    await tellPeer(web.namespace, 8080);
    await web.namespace.start(python('udp_answer.py', 5353)).says('ready');
    const file = join(lab.directory, 'service.yaml');
    const apply = (text: string): Promise<string> => {
      writeFileSync(file, text);
      return a.run('apply', '-f', file, '--wait=60s');
    };
    await apply(service('web'));

    await t.test('its address is kept, by either host, TCP and UDP', async (t) => {
      for (const family of families) {
        for (const host of [entry, backendHost]) {
          t.equal(await seenAs(client, host[family], 30_080), clientIp[family], `TCP to ${host[family]}`);
          t.ok(await isAnswered(client, host[family], 30_053), `UDP to ${host[family]}`);
        }
      }
      const own = (all: ConnectionReport[]): ConnectionReport | undefined =>
        all.find(({ source, protocol }) => protocol === 'tcp' && source.startsWith(`${clientIp[4]}:`));
      const [atEntry, atBackend] = [
        own((await a.json('connections')) as ConnectionReport[]),
        own((await b.json('connections')) as ConnectionReport[]),
      ];
      t.match(atEntry, { direction: 'published', service: { name: 'default/web' }, to: 'default/web' });
      t.match(atBackend, { direction: 'published', to: 'default/web', via: entry[4] });
    });

    await t.test('both hosts themselves, by an address that both have, from one port', async (t) => {
      const entered = [hostB, hostA].map((host, at) => {
        const ip = [backendHost, entry][at]![4];
        const connection = host.start(['socat', '-', `TCP:${ip}:30080,bind=${transit.ip4.host}:5555`]);
        return { ip, connection };
      });
      for (const { ip, connection } of entered) await connection.says(ip);
      for (const { ip, connection } of entered) {
        connection.write(`by ${ip}\n`);
        await connection.says(`by ${ip}`);
      }
      for (const { connection } of entered) await connection.stop();
      t.pass('each sees its own answers, and their backend tells them apart');
    });

    await t.test('large answers and questions arrive whole', async (t) => {
      for (const family of families) {
        const target = family === 4 ? entry[4] : `[${entry[6]}]`;
        const script = `head -c ${LARGE_BYTES} /dev/zero | tr '\\0' x | socat -t 30 - TCP:${target}:30080 | wc -c`;
        const received = Number(await client.run(['sh', '-c', script]));
        t.ok(received > LARGE_BYTES, `${received} bytes over IPv${family}`);
      }
    });

    await t.test('connections go on while either daemon is killed, or taken over', async (t) => {
      const connection = client.start(['socat', '-', `TCP:${entry[4]}:30080`]);
      await connection.says(clientIp[4]);
      // What one host has let through must not be taken for what the other one does: each has words of its own.
      for (const [at, weft] of [b, a].entries()) {
        await weft.kill();
        await weft.start();
        connection.write(`still there ${at}?\n`);
        await connection.says(`still there ${at}?`);
        await weft.takeOver();
        connection.write(`and now ${at}?\n`);
        await connection.says(`and now ${at}?`);
      }
      await apply(service('nobody'));
      await connection.exited;
      t.pass('a backend that is gone: the client is told');
      await apply(service('web'));
    });

    await t.test('a policy that admits only backends of the host leaves out those of others', async (t) => {
      await apply(service('web', 'externalTrafficPolicy: Local'));
      t.equal(await seenAs(client, entry[4], 30_080), undefined);
      t.equal(await seenAs(client, backendHost[4], 30_080), clientIp[4]);
      t.ok((await a.drops())['service_local']! > 0);
    });
    t.notMatch(await b.drops(), { vtep_not_owner: Number });
  });
}

for (const datapath of datapathKinds) byAnotherHost(datapath);
