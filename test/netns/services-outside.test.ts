/**
 *   ┌ client ┐ eth0 ── eth0 ┌ host ────────────────────────┐
 *   │ .2 ::2 │              │ .1 ::1 ── weft0 ── weft ─ web │
 *   └────────┘              └──────────────────────────────┘
 *     192.0.2.0/24, 2001:db8::/64             10.44.0.0/24, fd44::/64
 *   203.0.113.7 and 2001:db8:7::7 are routed to the host
 *
 * Services that clients outside reach: by node ports, and by addresses that the operator gave them.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ConnectionReport } from '../../src/model/report.ts';
import { transit } from '../../src/outside/link.ts';
import { clientIp, families, isAnswered, own, seenAs, tellPeer } from '../outside/place.ts';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import { ruleset as rules } from '../support/ruleset.ts';
import { attachContainer, overlay } from '../support/topology.ts';
import { python } from '../support/traffic.ts';
import { datapathKinds, Weft, type DatapathKind } from '../support/weft.ts';

t.setTimeout(600_000);
t.jobs = datapathKinds.length;

const given = { 4: '203.0.113.7', 6: '2001:db8:7::7' } as const;

const service = (spec: string, annotations = ''): string => `
apiVersion: v1
kind: Service
metadata: { name: web, annotations: { ${annotations} } }
spec:
  selector: { app: web }
  ipFamilyPolicy: RequireDualStack
  ${spec}
`;
const PORTS = `ports:
    - { name: http, port: 80, targetPort: 8080, nodePort: 30080 }
    - { name: dns, port: 53, targetPort: 5353, protocol: UDP, nodePort: 30053 }`;

interface Shown {
  readonly spec: { readonly ports: readonly { readonly nodePort?: number }[] };
  readonly status?: { readonly nodePorts?: readonly string[] };
}

async function place(lab: Lab): Promise<{ client: Namespace; host: Namespace }> {
  const [client, host] = [await lab.namespace('client'), await lab.namespace('host')];
  await lab.cable(client, 'eth0', host, 'eth0');
  for (const family of families) {
    const length = family === 4 ? '/24' : '/64 nodad';
    await client.ip(`address add ${clientIp[family]}${length} dev eth0`);
    await host.ip(`address add ${own[family]}${length} dev eth0`);
    await client.ip(`route add ${given[family]} via ${own[family]}`);
  }
  return { client, host };
}

async function isRefused(from: Namespace, ip: string, port: number): Promise<boolean> {
  const server = `TCP:${ip.includes(':') ? `[${ip}]` : ip}:${port},connect-timeout=1`;
  return /Connection refused/.test((await from.attempt(['socat', '-u', '-', server])).stderr);
}

function fromOutside(datapath: DatapathKind): void {
  t.test(`services from outside, ${datapath}`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const { client, host } = await place(lab);
    const weft = await Weft.up(lab, host, 'host', { datapath });
    const file = join(lab.directory, 'service.yaml');
    const apply = (text: string): Promise<string> => {
      writeFileSync(file, text);
      return weft.run('apply', '-f', file);
    };
    const reaches = async (t: Test, from: Namespace, ip: string, ports: [tcp: number, udp: number], seen: string) => {
      t.equal(await seenAs(from, ip, ports[0]), seen, `TCP to ${ip}, port ${ports[0]}`);
      t.ok(await isAnswered(from, ip, ports[1]), `UDP to ${ip}, port ${ports[1]}`);
    };

    await t.test('the link is there as soon as a service needs it, and refuses where it has no backend', async (t) => {
      await weft.createNetwork('green --subnet 10.45.0.0/24');
      t.same(await host.links(), ['eth0']);
      await apply(service(`type: NodePort\n  ${PORTS}`));
      t.same(await host.links(), ['eth0', 'weft0']);
      t.match((await weft.status()).outside, { open: true });
      for (const family of families) t.ok(await isRefused(client, own[family], 30_080), `IPv${family}`);
      t.match(await weft.drops(), { service_no_backend: 2 });
      t.equal(await weft.run('delete', 'svc', 'web'), 'service/web deleted\n');
      t.same(await host.links(), ['eth0'], 'and goes with it');
      t.equal(await rules(host), '');
    });

    await weft.createNetwork(`${overlay.create} --outside`);
    const web = await attachContainer(lab, weft, 'web', 11, ['--label', 'app=web']);
    const inside = await attachContainer(lab, weft, 'inside', 12);
    await tellPeer(web.namespace, 8080);
    for (const port of [5353, 5100]) await web.namespace.start(python('udp_answer.py', port)).says('ready');

    await t.test('a node port is open on all addresses of the host, and the client keeps its own', async (t) => {
      await apply(service(`type: NodePort\n  ${PORTS}`));
      for (const family of families) {
        await reaches(t, client, own[family], [30_080, 30_053], clientIp[family]);
        await reaches(t, host, own[family], [30_080, 30_053], own[family]);
        t.ok(await isRefused(client, own[family], 80), 'its own ports are those of the host');
      }
      const shown = (await weft.json('get', 'svc', 'web')) as Shown;
      t.match(shown.spec, { type: 'NodePort', externalTrafficPolicy: 'Cluster', ports: [{ nodePort: 30_080 }, {}] });
      t.match(await weft.run('get', 'svc'), /NodePort +10\.96\.\S+ +<none> +80:30080\/TCP,53:30053\/UDP/);
      t.match(await weft.run('services', 'web'), /Ports: +http 80:30080\/TCP, dns 53:30053\/UDP/);
      const listening = host.start(['socat', 'TCP-LISTEN:30080,bind=192.0.2.1', '-']);
      await host.run(['sh', '-c', 'until grep -q :7580 /proc/net/tcp; do :; done']);
      t.match(
        (await weft.attempt('doctor')).stdout,
        /30080\/tcp is the node port of service "web".* listens on 192\.0\.2\.1/,
      );
      await listening.stop();
      const connections = (await weft.json('connections')) as ConnectionReport[];
      const own4 = connections.find(({ service, source }) => service && source.startsWith(`${clientIp[4]}:`));
      t.match(own4, { direction: 'published', service: { name: 'default/web' }, to: 'default/web' });
    });

    await t.test('a client that uses a port again loses nothing', async (t) => {
      await client.run(['sysctl', '-qw', 'net.ipv4.tcp_max_tw_buckets=0']);
      const tries = 20;
      const atOnce = Number(await client.run(python('port_again.py', own[4], 30_080, 45_000, tries)));
      // Of a busy machine, one or another may take a second.
      t.ok(atOnce >= tries / 2, `${atOnce} of ${tries} needed no second SYN`);
    });

    await t.test('an address that was given to it leads to its own ports', async (t) => {
      const annotations = `weft.dev/load-balancer-ips: '${given[4]},${given[6]}'`;
      await apply(service(`type: LoadBalancer\n  ${PORTS}`, annotations));
      for (const family of families) {
        await reaches(t, client, given[family], [80, 53], clientIp[family]);
        await reaches(t, client, own[family], [30_080, 30_053], clientIp[family]);
        await host.ip(`address add ${given[family]}/${family === 4 ? 32 : '128 nodad'} dev lo`);
        await reaches(t, client, given[family], [80, 53], clientIp[family]);
        await reaches(t, host, given[family], [80, 53], given[family]);
        t.ok(await isRefused(client, given[family], 81), 'and nothing else is there');
      }
      await reaches(t, inside.namespace, given[4], [80, 53], inside.ip4);
      await reaches(t, inside.namespace, given[6], [80, 53], inside.ip6);
      const gateway = await seenAs(inside.namespace, own[4], 30_080);
      t.equal(gateway, transit.ip4.host, 'a container that calls a node port comes by the host');
      t.match(await weft.run('get', 'svc'), `LoadBalancer`);
      t.match(await weft.run('get', 'svc'), `${given[4]},${given[6]}`);
      t.match(await weft.run('services', 'web'), new RegExp(`External addresses: +${given[4]}`));
    });

    await t.test('a range of ports has node ports in a row', async (t) => {
      await apply(service(`type: NodePort\n  ${PORTS}`, `weft.dev/ports: 5060-5160/udp`));
      const { status } = (await weft.json('get', 'svc', 'web')) as Shown;
      const first = Number(/^(\d+)-\d+$/.exec(status?.nodePorts?.[0] ?? '')?.[1]);
      for (const family of families) {
        t.ok(await isAnswered(client, own[family], first + 40), `IPv${family}`);
        t.notOk(await isAnswered(client, given[family], 53), 'the address is taken away');
      }
    });

    await t.test('only backends of this host count with externalTrafficPolicy: Local', async (t) => {
      await apply(service(`type: NodePort\n  externalTrafficPolicy: Local\n  ${PORTS}`));
      await reaches(t, client, own[4], [30_080, 30_053], clientIp[4]);
      await apply(`${service(`type: NodePort\n  externalTrafficPolicy: Local\n  ${PORTS}`).replace('app: web', '')}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-1, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
endpoints: [{ addresses: [${web.ip4.replace(/\d+$/, '200')}], nodeName: elsewhere }]
ports: [{ name: http, port: 8080 }]
`);
      t.equal(await seenAs(client, own[4], 30_080), undefined, 'and no other is asked');
      t.notOk(await isRefused(client, own[4], 30_080), 'nor is the client told: another host may answer');
      t.ok((await weft.drops())['service_local']! > 0);
      await weft.run('delete', 'endpointslice', 'web-1');
    });

    await t.test('connections go on after a crash and a takeover, and end with the service', async (t) => {
      await apply(service(`type: NodePort\n  ${PORTS}`));
      const connection = client.start(['socat', '-', `TCP:${own[4]}:30080`]);
      await connection.says(clientIp[4]);
      const before = await rules(host);
      await weft.kill();
      t.equal(await rules(host), before, 'what was let in is let in');
      await weft.start();
      t.equal(await rules(host), before);
      connection.write('still there?\n');
      await connection.says('still there?');
      await weft.takeOver();
      t.equal(await rules(host), before);
      connection.write('and now?\n');
      await connection.says('and now?');
      await reaches(t, client, own[6], [30_080, 30_053], clientIp[6]);
      await weft.run('delete', 'svc', 'web');
      await connection.exited;
      t.pass('the client is told');
      for (const family of families) t.ok(await isRefused(client, own[family], 30_080), `closed, IPv${family}`);
      t.notMatch(await rules(host), 'elements');
    });

    await t.test('nothing is let in without weft', async (t) => {
      await apply(service(`type: NodePort\n  ${PORTS}`));
      await weft.stop();
      t.equal(await rules(host), '');
      await weft.start();
      t.equal(await seenAs(client, own[4], 30_080), clientIp[4]);
    });
  });
}

for (const datapath of datapathKinds) fromOutside(datapath);
