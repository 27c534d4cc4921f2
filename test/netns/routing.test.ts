/**
 *   ┌ left ───────────────────────────┐              ┌ right ──────────────────┐
 *   │ web (red .11) ─┐                │              │                         │
 *   │                ├─ weft, gateway ┼── underlay ──┼ weft, gateway ─ far     │
 *   │ db (blue .12) ─┘                │              │              (blue .21) │
 *   └─────────────────────────────────┘              └─────────────────────────┘
 * Two networks with routes between them are one for real programs: each host routes what its
 * own containers send, and the containers need no set-up. The blue network has smaller packets,
 * 1300 bytes, while red has 1450.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab, type Namespace } from '../support/lab.ts';
import { outlive } from '../support/outlives.ts';
import { underlay, withoutOffloads } from '../support/topology.ts';
import { transfer } from '../support/transfer.ts';
import { isUnreachable, ping } from '../support/traffic.ts';
import { modeName, modes, twoHosts } from '../support/two-hosts.ts';
import type { Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const networks = `
apiVersion: weft.dev/v1
kind: Network
metadata: { name: red }
spec:
  subnets: [10.51.0.0/24, 'fd51::/64']
  vni: 51
  routes:
    - { to: 10.52.0.0/24, network: blue }
    - { to: 'fd52::/64', network: blue }
    - { to: 198.51.100.0/24, type: prohibit }
---
apiVersion: weft.dev/v1
kind: Network
metadata: { name: blue }
spec:
  subnets: [10.52.0.0/24, 'fd52::/64']
  vni: 52
  mtu: 1300
  routes:
    - { to: 10.51.0.0/24, network: red }
    - { to: 'fd51::/64', network: red }
`;

/** The MSS of the one SYN that arrives at each of these while `action` runs, as tcpdump reads it. */
async function capturedSyns(at: readonly Namespace[], action: () => Promise<void>): Promise<number[]> {
  const filter = 'tcp[tcpflags] & tcp-syn != 0 or (ip6[6] == 6 and ip6[53] & 2 != 0)';
  const captures = at.map((namespace) =>
    namespace.start(['tcpdump', '--immediate-mode', '-l', '-vv', '-n', '-Q', 'in', '-i', 'eth0', '-c', '1', filter]),
  );
  for (const capture of captures) await capture.says('listening on');
  await action();
  return Promise.all(
    captures.map(async (capture) => {
      await capture.wait();
      return Number(/mss (\d+)/.exec(capture.stdout)?.[1]);
    }),
  );
}

for (const mode of modes) {
  await t.test(modeName(mode), async (t) => {
    const lab = openLab(t);
    const under = await underlay(lab, 'ipv4');
    await withoutOffloads(under);
    const { left, right, apply } = await twoHosts(lab, under, mode);
    const file = join(lab.directory, 'networks.yaml');
    writeFileSync(file, networks);
    await apply(file);

    const attach = async (weft: Weft, role: string, network: string, last: number): Promise<Namespace> => {
      const namespace = await lab.namespace(role);
      const third = network === 'red' ? 51 : 52;
      const ips = ['--ip', `10.${third}.0.${last}`, '--ip', `fd${third}::${last}`];
      await weft.attach(namespace, { network, arguments: ips });
      return namespace;
    };
    const web = await attach(left, 'web', 'red', 11);
    const db = await attach(left, 'db', 'blue', 12);
    const far = await attach(right, 'far', 'blue', 21);

    await t.test('containers have the gateway as their way out', async (t) => {
      t.match(await web.run(['ip', 'route', 'get', '10.52.0.12']), /via 10\.51\.0\.1 dev eth0/);
      t.match(await web.run(['ip', 'route', 'get', 'fd52::12']), /via fd51::1 dev eth0/);
      for (const gateway of ['10.51.0.1', 'fd51::1', '10.52.0.1', 'fd52::1']) await ping(web, gateway, { size: 1000 });
      for (const [gateway, size] of [
        ['10.51.0.1', 60_000],
        ['fd51::1', 60_000],
        ['10.52.0.1', 2000],
      ] as const) {
        await ping(web, gateway, { size });
      }
    });

    await t.test('ping and TCP between subnets, on one host and across, IPv4 and IPv6', async () => {
      for (const [from, to, ips] of [
        [web, db, ['10.52.0.12', 'fd52::12']],
        [web, far, ['10.52.0.21', 'fd52::21']],
        [far, web, ['10.51.0.11', 'fd51::11']],
      ] as const) {
        for (const ip of ips) await ping(from, ip);
        await transfer(from, to, ips, [{ kind: 'tcp', bytes: 2_000_000 }]);
      }
    });

    await t.test('both ends of a TCP connection hear of the smallest network between them', async (t) => {
      for (const [from, to, ip, mss] of [
        [web, db, '10.52.0.12', 1260],
        [web, far, '10.52.0.21', 1260],
        [far, web, '10.51.0.11', 1260],
        [web, db, 'fd52::12', 1240],
        [web, far, 'fd52::21', 1240],
        [far, web, 'fd51::11', 1240],
      ] as const) {
        const syns = await capturedSyns([from, to], () => transfer(from, to, [ip], [{ kind: 'tcp', bytes: 200_000 }]));
        t.same(syns, [mss, mss], `${from.name} to ${ip}`);
      }
      t.notOk('too_big' in (await left.drops()), 'so none of them was ever too big');
    });

    await t.test('routed TCP connections outlive the daemon, on one host and across', async () => {
      const calls = [
        { from: web, to: db, ip: '10.52.0.12' },
        { from: web, to: db, ip: 'fd52::12' },
        { from: web, to: far, ip: '10.52.0.21' },
        { from: web, to: far, ip: 'fd52::21' },
      ];
      await outlive(calls, async () => {
        await left.kill();
        await left.start();
      });
    });

    await t.test('the operator sees the way', async (t) => {
      const trace = await left.run('trace', 'in_port=web,tcp,ip_dst=10.52.0.12,tcp_dst=80');
      t.match(trace, /^route +10\.52\.0\.0\/24 in network blue, at /m);
      t.match(
        trace,
        /^Actions: track, mtu\(1300\), route\(src=02:77:66:00:00:34,dst=[0-9a-f:]{17}\), clamp\(mss=1260\), output\(db\)$/m,
      );
      t.match(await left.run('describe', 'network', 'red'), /routes: +to=10\.52\.0\.0\/24,network=blue; to=fd52::\/64/);
    });

    await t.test('traceroute shows the gateway as one hop', async (t) => {
      for (const [ip, gateway] of [
        ['10.52.0.12', '10.51.0.1'],
        ['10.52.0.21', '10.51.0.1'],
        ['fd52::12', 'fd51::1'],
        ['fd52::21', 'fd51::1'],
      ] as const) {
        const text = await web.run(['traceroute', '-n', '-q', '1', '-w', '30', ip]);
        const hops = text.split('\n').flatMap((line) => /^ *\d+ +(\S+)/.exec(line)?.[1] ?? []);
        t.same(hops, [gateway, ip], text);
      }
    });

    await t.test('so do mtr and tracepath, which finds what the way takes', async (t) => {
      for (const [from, ip, gateway] of [
        [web, '10.52.0.12', '10.51.0.1'],
        [web, '10.52.0.21', '10.51.0.1'],
        [far, '10.51.0.11', '10.52.0.1'],
        [web, 'fd52::12', 'fd51::1'],
        [web, 'fd52::21', 'fd51::1'],
        [far, 'fd51::11', 'fd52::1'],
      ] as const) {
        const report = await from.run(['mtr', '-n', '--json', '-c', '1', '-i', '0.2', '-G', '1', ip]);
        const { hubs } = (JSON.parse(report) as { report: { hubs: { host: string }[] } }).report;
        t.same(
          hubs.map(({ host }) => host),
          [gateway, ip],
          report,
        );
        const path = await from.run(['tracepath', '-n', ip]);
        t.match(path, /Resume: pmtu 1300 hops 2 back 2/, path);
      }
    });

    await t.test('what ends at the gateway says why', async (t) => {
      const prohibited = await web.attempt(['ping', '-n', '-c', '1', '-W', '30', '198.51.100.7']);
      t.match(prohibited.stdout, /From 10\.51\.0\.1 .*(Filtered|Prohibited)/i);
      const nowhere = await web.attempt(['ping', '-n', '-c', '1', '-W', '30', '203.0.113.7']);
      t.match(nowhere.stdout, /From 10\.51\.0\.1 .*Destination Net Unreachable/);
      const nobody = await web.attempt(['ping', '-n', '-c', '1', '-W', '30', '10.52.0.77']);
      t.match(nobody.stdout, /From 10\.51\.0\.1 .*Destination Host Unreachable/);
      t.match(await left.drops(), { route_prohibit: 1, no_route: 1, neighbor_unresolved: 1 });
      const unresolved = (await left.json('drops')).find(({ reason }) => reason === 'neighbor_unresolved');
      t.match(await left.run('why', unresolved?.id ?? ''), /nobody answers for 10\.52\.0\.77/);
    });

    await t.test(
      'a program is refused at once, however often it tries, and without a decision each time',
      async (t) => {
        const upcalls = async (): Promise<number> => (await left.json('status')).datapath.upcalls;
        const before = await upcalls();
        for (const [ip, said] of [
          ['10.51.0.1', 'Connection refused'],
          ['fd51::1', 'Connection refused'],
          ['203.0.113.8', 'Network is unreachable'],
        ] as const) {
          const connect = `for i in $(seq 100); do (echo > /dev/tcp/${ip}/80) 2>&1; done; true`;
          const output = await web.run(['bash', '-c', connect]);
          t.equal(output.split(`/dev/tcp/${ip}/80: ${said}`).length - 1, 100, output.slice(0, 500));
        }
        const more = (await upcalls()) - before;
        t.ok(more <= 30, `${more} upcalls for 300 connections`);
      },
    );

    await t.test('a route that is taken away is closed for flows that had it', async (t) => {
      writeFileSync(file, networks.replace('    - { to: 10.52.0.0/24, network: blue }\n', ''));
      t.match(await left.run('apply', '-f', file), /red.*configured/);
      t.ok(await isUnreachable(web, '10.52.0.12'));
      await ping(web, 'fd52::12');
      writeFileSync(file, networks);
      await left.run('apply', '-f', file);
      await ping(web, '10.52.0.12');
    });

    await t.test('after a restart everything is as before', async (t) => {
      await left.kill();
      await left.start();
      await ping(web, '10.52.0.21');
      await ping(web, 'fd52::21');
      t.match(await web.run(['ip', '-6', 'route', 'show', 'default']), /via fd51::1 dev eth0/);
    });
  });
}
