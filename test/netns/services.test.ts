/**
 *   ┌ host ───────────────────────────────────────────────┐
 *   │ client ── weft ─┬─ one      service web: TCP 80, UDP 53
 *   │                 └─ two                              │
 *   └─────────────────────────────────────────────────────┘
 *
 * Two containers answer behind one address, to real programs, over both families. What the programs see of each other is what
 * they would see without weft between them.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { ConnectionReport, WhyReport } from '../../src/model/report.ts';
import type { ServiceReport } from '../../src/model/service-report.ts';
import { openLab, type Namespace } from '../support/lab.ts';
import { until, type Background } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { attachContainer, overlay, type Container } from '../support/topology.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const VIP = { 4: '10.96.0.80', 6: 'fd77:6566:7460::80' } as const;

/** Says its name and who asks, over TCP to port 8080 and over UDP to port 5353, of both families. Keeps whoever connects to port 9000. */
const server = `
import socket, sys, threading
name = sys.argv[1]
def tcp(s):
    while True:
        c, peer = s.accept(); c.sendall((name + ' ' + peer[0]).encode()); c.close()
def udp(s):
    while True:
        _, peer = s.recvfrom(64); s.sendto((name + ' ' + peer[0]).encode(), peer)
for family, address in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    for kind, port, run in ((socket.SOCK_STREAM, 8080, tcp), (socket.SOCK_DGRAM, 5353, udp)):
        s = socket.socket(family, kind)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
        if kind == socket.SOCK_STREAM: s.listen(128)
        threading.Thread(target=run, args=(s,)).start()
def hold(s):
    held = []
    while True:
        c, _ = s.accept(); c.sendall(b'.'); held.append(c)
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', 9000)); s.listen(128)
threading.Thread(target=hold, args=(s,)).start()
print('listening', flush=True)
`;

/** Asks so often, each time from another port, and prints what it was told; an error by its name. */
const client = `
import socket, sys
kind, address, port, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ':' in address else socket.AF_INET
for _ in range(times):
    s = socket.socket(family, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
    s.settimeout(30)
    try:
        s.connect((address, port))
        if kind == 'udp': s.send(b'?')
        print(s.recv(64).decode() or 'closed')
    except OSError as e:
        print(type(e).__name__)
    s.close()
`;

/**
 * Talks to a service and straight to its backends, all from one port, over TCP with the service first and last, and over UDP.
 * Prints who has answered.
 */
const samePort = `
import socket, sys
vip, *backends = sys.argv[1:]
def connect(address, port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.settimeout(30)
    s.bind(('', port))
    s.connect((address, 9000))
    return s
for port, order in ((31000, [vip, *backends]), (31001, [*backends, vip])):
    opened = [connect(address, port) for address in order]
    print(*sorted(s.getpeername()[0] for s in opened if s.recv(1) == b'.' and s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(30)
s.bind(('', 31002))
s.sendto(b'?', (vip, 53))
answered = [s.recvfrom(64)[1][0]]
for address in (*backends, vip):
    s.sendto(b'?', (address, 5353 if address != vip else 53))
    answered.append(s.recvfrom(64)[1][0])
print(*sorted(answered[1:]))
`;

/** Asks an address 20 times over TCP and over UDP, and prints how many milliseconds the longest refusal took. */
const refused = `
import socket, sys, time
address = sys.argv[1]
longest = 0
for kind, port in [(socket.SOCK_STREAM, 80), (socket.SOCK_DGRAM, 53)] * 20:
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, kind)
    s.settimeout(30)
    begun = time.monotonic()
    try:
        s.connect((address, port)); s.send(b'?'); s.recv(64)
    except ConnectionRefusedError:
        longest = max(longest, time.monotonic() - begun)
    s.close()
print(round(longest * 1000, 2))
`;

/** Asks over UDP from one socket, without a pause, until it is answered. Prints when it is refused for the first time, and the answer. */
const persistent = `
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.01)
s.connect((sys.argv[1], 53))
refused = False
while True:
    try:
        s.send(b'?')
        print(s.recv(64).decode())
        break
    except ConnectionRefusedError:
        if not refused: print('refused')
        refused = True
    except TimeoutError:
        pass
`;

/** Opens so many connections to port 9000, and keeps them. */
const holder = `
import signal, socket, sys
held = [socket.create_connection((sys.argv[1], 9000)) for _ in range(int(sys.argv[2]))]
for s in held: s.recv(1)
print('open', flush=True)
signal.pause()
`;

interface Asked {
  readonly from: Namespace;
  readonly kind: 'tcp' | 'udp';
  readonly address: string;
  readonly port?: number;
  readonly times?: number;
}

async function ask({ from, kind, address, port = kind === 'tcp' ? 80 : 53, times = 1 }: Asked): Promise<string[]> {
  return (await from.run(['python3', '-c', client, kind, address, String(port), String(times)])).trim().split('\n');
}

async function listen({ namespace }: Container, name: string): Promise<Background> {
  const listening = namespace.start(['python3', '-u', '-c', server, name]);
  await until(() => listening.stdout.includes('listening'), { what: `${name} listens` });
  return listening;
}

const service = (labels: string): string => `
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  selector: { ${labels} }
  ipFamilyPolicy: PreferDualStack
  clusterIP: ${VIP[4]}
  clusterIPs: ['${VIP[4]}', '${VIP[6]}']
  ports:
    - { name: http, port: 80, targetPort: 8080 }
    - { name: names, port: 53, targetPort: 5353, protocol: UDP }
    - { name: held, port: 9000 }
`;

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    // Flows that nobody uses for a while are still there to be asked about, however slow the machine is.
    const config = join(lab.directory, 'weft.yaml');
    writeFileSync(config, 'flowIdleMs: 3600000\n');
    const weft = await Weft.up(lab, host, 'host', { datapath, arguments: ['--config', config] });
    await weft.createNetwork(overlay.create);
    const label = ['--label', 'app=web'];
    const asking = await attachContainer(lab, weft, 'client', 11);
    const one = await attachContainer(lab, weft, 'one', 12, label);
    const two = await attachContainer(lab, weft, 'two', 13, label);
    const servers = [await listen(one, 'one'), await listen(two, 'two'), await listen(asking, 'client')];
    const file = join(lab.directory, 'service.yaml');
    const apply = async (labels: string): Promise<void> => {
      writeFileSync(file, service(labels));
      await weft.run('apply', '-f', file);
    };
    const from = asking.namespace;
    await apply('app: web');

    await t.test('both backends answer, and see who has asked', async (t) => {
      for (const kind of ['tcp', 'udp'] as const) {
        for (const [address, own] of [
          [VIP[4], asking.ip4],
          [VIP[6], asking.ip6],
        ] as const) {
          const told = await ask({ from, kind, address, times: 40 });
          t.equal(told.length, 40);
          t.same([...new Set(told)].sort(), [`one ${own}`, `two ${own}`], `${kind} to ${address}`);
        }
      }
    });

    await t.test('an operator sees the service, its connections, and why each has its backend', async (t) => {
      const holding = from.start(['python3', '-u', '-c', holder, VIP[4], '40']);
      await until(() => holding.stdout.includes('open'), { what: 'connections are open' });
      const all = (await weft.json('connections', '--endpoint', 'client')) as ConnectionReport[];
      const through = all.filter(({ direction, destination, state }) => {
        return direction === 'service' && destination === `${VIP[4]}:9000` && state === 'established';
      });
      t.equal(through.length, 40, 'each is there once');
      t.ok(through.every(({ from, service }) => from === 'default/client' && service?.port === 'held'));
      t.same([...new Set(through.map(({ service }) => service?.name))], ['default/web']);
      t.same(new Set(through.map(({ to }) => to)), new Set(['default/one', 'default/two']));
      for (const { to, translatedDestination } of through) {
        t.equal(translatedDestination, `${to === 'default/one' ? one.ip4 : two.ip4}:9000`);
      }

      const ofService = (await weft.json('connections', '--service', 'default/web')) as ConnectionReport[];
      t.ok(ofService.length >= 40 && ofService.every(({ service }) => service?.name === 'default/web'));
      const ofClient = (await weft.json('connections', '--endpoint', 'default/client')) as ConnectionReport[];
      t.ok(ofClient.length >= 40, 'named as it is shown');
      for (const [option, message] of [
        ['--service', /there is no Service "none"/],
        ['--network', /network "none" does not exist: `weft network ls` shows/],
      ] as const) {
        t.match(await weft.attempt('connections', option, 'none'), { code: 1, stderr: message });
      }

      const [web] = (await weft.json('services')) as ServiceReport[];
      t.match(web, { name: 'web', namespace: 'default', addresses: [VIP[4], VIP[6]], balancing: 'maglev' });
      const backends = web!.backends.filter(({ address }) => !address.includes(':'));
      t.match(backends, [
        {
          endpoint: 'default/one',
          address: one.ip4,
          host: 'host',
          state: 'ready',
          weight: 1,
          ports: [8080, 5353, 9000],
        },
        { endpoint: 'default/two', address: two.ip4, host: 'host', state: 'ready', weight: 1 },
      ]);
      for (const { endpoint, connections } of backends) {
        const open = all.filter(
          ({ to, translatedDestination, state }) =>
            to === endpoint && !translatedDestination.includes('[') && state !== 'time_wait' && state !== 'closed',
        );
        t.equal(connections, open.length, `as many to ${endpoint} as are listed, without those that are over`);
      }

      const { id, to } = through[0]!;
      const why = (await weft.json('why', id)) as WhyReport;
      t.match(why, { id, connection: { to }, choice: { service: 'default/web', by: 'maglev', port: { port: 9000 } } });
      const { candidates, excluded } = why.choice!;
      t.same(
        new Map(candidates.map(({ endpoint, chosen }) => [endpoint, chosen])),
        new Map([
          ['default/one', to === 'default/one'],
          ['default/two', to === 'default/two'],
        ]),
      );
      t.match(excluded, [{ why: /other IP version/ }, { why: /other IP version/ }]);
      t.match(why.decision?.actions, 'nat', 'and the flow that it takes');
      const told = await weft.run('why', id);
      t.ok(told.includes(`-> ${to} on host, `), told);

      const traced = await weft.run('trace', `in_port=client,tcp,ip_dst=${VIP[4]},tcp_src=40000,tcp_dst=80`);
      t.match(
        traced,
        /\nservice +service default\/web: backend default\/(one|two), port 8080, one of 2 candidates, by the hash /,
      );
      t.match(traced, /\nBackend of service default\/web, port http, 80\/TCP, by maglev:\n/);

      await weft.run('label', 'endpoint', 'two', 'weft.dev/drain=true');
      const drained = (await weft.json('services', 'web')) as ServiceReport;
      t.same(
        drained.backends.map(({ endpoint, state }) => [endpoint, state]),
        [
          ['default/one', 'ready'],
          ['default/one', 'ready'],
          ['default/two', 'serving'],
          ['default/two', 'serving'],
        ],
      );
      t.match(
        await weft.run('trace', `in_port=client,tcp,ip_dst=${VIP[4]},tcp_dst=80`),
        /not default\/two on host: it terminates\n/,
      );
      await weft.run('label', 'endpoint', 'two', 'weft.dev/drain-');
      await holding.stop('SIGKILL');
    });

    await t.test('a backend reaches itself through its service', async (t) => {
      const told = await ask({ from: one.namespace, kind: 'tcp', address: VIP[4], times: 40 });
      t.same([...new Set(told)].sort(), [`one ${VIP[4]}`, `two ${one.ip4}`].sort());
    });

    await t.test('also from an address that it may use besides its own', async (t) => {
      const besides = '10.44.0.99';
      const declared = (await weft.json('get', 'endpoint', 'one')) as { readonly spec: object };
      const manifest = join(lab.directory, 'one.json');
      writeFileSync(manifest, JSON.stringify({ ...declared, spec: { ...declared.spec, allowedAddresses: [besides] } }));
      await weft.run('apply', '-f', manifest);
      await one.namespace.ip(`address add ${besides}/32 dev eth0`);
      await one.namespace.ip(`route add ${VIP[4]} via 10.44.0.1 src ${besides}`);
      const told = await ask({ from: one.namespace, kind: 'tcp', address: VIP[4], times: 40 });
      t.same([...new Set(told)].sort(), [`one ${VIP[4]}`, `two ${besides}`].sort());
      await one.namespace.ip(`route del ${VIP[4]}`);
    });

    await t.test('a client talks to a service and straight to its backends from one port', async (t) => {
      const all = [VIP[4], one.ip4, two.ip4];
      const said = await from.run(['python3', '-c', samePort, ...all]);
      t.same(
        said.trim().split('\n'),
        Array.from({ length: 3 }, () => [...all].sort().join(' ')),
      );
    });

    await t.test('what no service has is refused', async (t) => {
      for (const address of [VIP[4], VIP[6]]) {
        t.same(await ask({ from, kind: 'tcp', address, port: 81 }), ['ConnectionRefusedError'], `TCP 81 of ${address}`);
        t.same(await ask({ from, kind: 'udp', address, port: 80 }), ['ConnectionRefusedError'], `UDP 80 of ${address}`);
      }
      t.same(await ask({ from, kind: 'tcp', address: '10.96.7.7' }), ['ConnectionRefusedError']);
      t.same(await ask({ from, kind: 'udp', address: 'fd77:6566:7460::777' }), ['ConnectionRefusedError']);
    });

    await t.test('a port that nobody listens on is told by the backend', async (t) => {
      await apply('app: nobody');
      await servers[1]!.stop('SIGKILL');
      await weft.run('label', 'endpoint', 'two', 'app=alone');
      await apply('app: alone');
      for (const address of [VIP[4], VIP[6]]) {
        t.same(await ask({ from, kind: 'tcp', address }), ['ConnectionRefusedError'], 'its reset comes back');
        t.same(await ask({ from, kind: 'udp', address }), ['ConnectionRefusedError'], 'its ICMP error comes back');
      }
    });

    await t.test('without a backend, clients are refused', async (t) => {
      await apply('app: nobody');
      for (const address of [VIP[4], VIP[6]]) {
        for (const kind of ['tcp', 'udp'] as const) {
          t.same(await ask({ from, kind, address }), ['ConnectionRefusedError'], `${kind} to ${address}`);
        }
        const longestMs = await from.run(['python3', '-c', refused, address]);
        t.comment(`of 40 refusals by ${address}, the longest took ${longestMs.trim()} ms`);
      }
      const waiting = [VIP[4], VIP[6]].map((address) => from.start(['python3', '-u', '-c', persistent, address]));
      for (const socket of waiting) await socket.says('refused');
      await apply('app: web');
      t.same(
        await ask({ from, kind: 'udp', address: VIP[4] }),
        [`one ${asking.ip4}`],
        'and as soon as there is one, not',
      );
      // Whoever asked before goes on with the same socket.
      for (const [at, ip] of [asking.ip4, asking.ip6].entries()) {
        t.equal(await waiting[at]!.wait(), 0);
        t.same(waiting[at]!.stdout.trim().split('\n'), ['refused', `one ${ip}`]);
      }
    });

    await Promise.all(servers.map((one) => one.stop('SIGKILL')));
  });
}
