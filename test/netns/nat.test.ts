/**
 *   ┌ client ┐ eth0 ── eth0 ┌ host ────────────────────────┐
 *   │ .2 ::2 │              │ .1 ::1 ── weft0 ── weft ─ web │
 *   └────────┘              └──────────────────────────────┘
 *     192.0.2.0/24, 2001:db8::/64             10.44.0.0/24, fd44::/64
 *
 * Containers reach the outside, which sees the host's own address, and are reached by published
 * ports. The client has no route to the containers.
 */
import t from 'tap';
import type { ConnectionReport } from '../../src/model/report.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { outsideHost, outsideIps } from '../support/topology.ts';
import { talker, type HoldReport, type ServerReport } from '../support/mesh.ts';
import { outlive, STEADY_PORT } from '../support/outlives.ts';
import { askOverUdp, isUnreachable, ping, python, QUESTION_PORT } from '../support/traffic.ts';
import { transfer, TRANSFER_PORT } from '../support/transfer.ts';
import { datapathKinds, type DatapathKind, type Weft } from '../support/weft.ts';

t.setTimeout(600_000);

/** Datagrams to this port are answered with their digest. */
const DIGEST_PORT = 7054;
/** The largest over IPv4: 65,535 minus the headers. */
const LARGEST_BYTES = 65_507;

/** Clients of a published port, who ask once and then no more. */
const CLIENTS = 3;
const IDLE_MS = 3_600_000;
const IDLE_PORT = 7060;

const { client, host } = outsideIps;

/** The ports that `web` publishes. */
const published = [
  `8021:${TRANSFER_PORT}`,
  `8053:${QUESTION_PORT}/udp`,
  `8054:${DIGEST_PORT}/udp`,
  `8024:${STEADY_PORT}`,
  `8025:${STEADY_PORT + 1}`,
  `8026:${IDLE_PORT}`,
];

const connections = (weft: Weft): Promise<ConnectionReport[]> => weft.client.connections();

function nat(datapath: DatapathKind): void {
  t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const { client: outer, host: under, weft, web, db } = await outsideHost(lab, datapath, published);

    await t.test('ping, TCP and UDP reach the client, from the host’s address', async (t) => {
      for (const [ip, own] of [
        [client.ip4, host.ip4],
        [client.ip6, host.ip6],
      ] as const) {
        await ping(web.namespace, ip);
        await ping(web.namespace, ip, { size: 1400 });
        await transfer(
          web.namespace,
          outer,
          [ip],
          [
            { kind: 'tcp', bytes: 3_000_000 },
            { kind: 'udp', bytes: 100_000, segmentBytes: 1200 },
          ],
        );
        await askOverUdp(web.namespace, outer, ip, 20);
        const seen = (await connections(weft)).filter(({ destination }) => destination.includes(ip));
        t.ok(seen.some(({ protocol, state }) => protocol === 'tcp' && ['time_wait', 'closing'].includes(state)));
        t.ok(seen.some(({ protocol, state }) => protocol === 'udp' && state === 'answered'));
        t.ok(seen.some(({ protocol }) => protocol === 'icmp'));
        t.ok(seen.every(({ endpoint, direction }) => endpoint === 'web' && direction === 'outbound'));
        t.ok((await weft.client.connections({ endpoint: 'web' })).length >= seen.length);
        t.match(
          await weft.run('connections', '--endpoint', 'web'),
          /^ID +PROTOCOL +STATE +FROM +TO +SERVICE [^]* default\/web /,
        );
        t.match(await weft.attempt('connections', '--endpoint', 'nobody'), {
          code: 1,
          stderr: /^weft: endpoint "nobody" does not exist/,
        });
        t.match(await outer.run(['ip', 'neighbor']), own, 'the client has seen nobody but the host');
      }
      t.notMatch(await outer.run(['ip', 'neighbor']), web.ip4);
    });

    await t.test('published ports are reached from outside, and from the host itself', async (t) => {
      for (const ip of [host.ip4, host.ip6]) {
        await transfer(outer, web.namespace, [ip], [{ kind: 'tcp', bytes: 2_000_000 }], { port: 8021 });
        await askOverUdp(outer, web.namespace, ip, 20, 8053);
        await transfer(under, web.namespace, [ip], [{ kind: 'tcp', bytes: 200_000 }], { port: 8021 });
      }
      const inbound = (await connections(weft)).filter(({ direction }) => direction === 'published');
      t.ok(inbound.length >= 4, `${inbound.length} connections`);
    });

    await t.test('published ports are reached from their own container, and from others', async () => {
      for (const { namespace } of [web, db]) {
        for (const ip of [host.ip4, host.ip6]) {
          await transfer(namespace, web.namespace, [ip], [{ kind: 'tcp', bytes: 200_000 }], { port: 8021 });
          await askOverUdp(namespace, web.namespace, ip, 20, 8053);
        }
      }
    });

    await t.test('datagrams of 64 KB arrive whole, both ways', async () => {
      for (const [from, to, ips, port] of [
        [web.namespace, outer, client, DIGEST_PORT],
        [outer, web.namespace, host, 8054],
      ] as const) {
        const server = to.start(python('udp_digest.py', DIGEST_PORT));
        await server.says('ready');
        for (const ip of [ips.ip4, ips.ip6]) await from.run(python('udp_large.py', ip, port, 3, LARGEST_BYTES));
        await server.stop();
      }
    });

    await t.test('the host is not reached from containers, nor the containers by their own addresses', async (t) => {
      for (const ip of [host.ip4, host.ip6]) t.ok(await isUnreachable(web.namespace, ip), ip);
      t.ok(await isUnreachable(outer, web.ip4));
      await web.namespace.run(python('udp_send.py', client.ip4, 4789, '00'));
      await until(async () => (await weft.status()).datapath.drops['vxlan_injection'] === 1, {
        what: 'the datagram to port 4789 is dropped',
      });
    });

    await t.test('traceroute names the gateway, the host and the client', async (t) => {
      const route = await web.namespace.run(['traceroute', '-n', '-w', '30', '-q', '1', client.ip4]);
      const hops = [...route.matchAll(/^ *\d+ +(\S+)/gm)].map(([, hop]) => hop);
      t.same(hops, ['10.44.0.1', '169.254.77.1', client.ip4]);
    });

    await t.test('TCP connections outlive the daemon, both ways', async (t) => {
      const calls = [
        { from: outer, to: web.namespace, ip: host.ip4, port: 8024 },
        { from: outer, to: web.namespace, ip: host.ip6, port: 8025 },
        { from: web.namespace, to: outer, ip: client.ip4 },
        { from: web.namespace, to: outer, ip: client.ip6 },
      ];
      const established = async (): Promise<unknown[] | undefined> => {
        const all = (await connections(weft)).filter(({ state }) => state === 'established');
        return all.length < calls.length
          ? undefined
          : all.map(({ source, destination, translatedSource }) => [source, destination, translatedSource]);
      };
      await outlive(calls, async () => {
        const before = await established();
        t.equal(before?.length, calls.length, 'they are established');
        await weft.kill();
        await weft.start();
        t.same(await until(established, { what: 'the connections are known again' }), before);
      });
    });

    await t.test('connections outlive an uplink that goes down and up', async (t) => {
      // IPv6 removes the addresses of an interface that goes down, unless it is told to keep them.
      await under.run(['sysctl', '-qw', 'net.ipv6.conf.eth0.keep_addr_on_down=1']);
      const calls = [client.ip4, client.ip6].map((ip) => ({ from: web.namespace, to: outer, ip }));
      await outlive(calls, async () => {
        const before = await connections(weft);
        await under.ip('link set eth0 down');
        await under.ip('link set eth0 up');
        const after = await connections(weft);
        t.equal(after.length, before.length);
      });
    });

    await t.test('the operator sees what would happen to a new one', async (t) => {
      const trace = await weft.run('trace', `in_port=web,tcp,ip_dst=${client.ip4},tcp_dst=443`);
      t.match(trace, /^route +outside from 169\.254\.77\.2: \S+ to 192\.0\.2\.2 /m);
      t.match(trace, /^open +a new connection/m);
      t.match(trace, /^Actions: connect$/m);
    });

    await t.test('idle clients of a published port are told when its endpoint is gone', async (t) => {
      await talker<ServerReport>(web.namespace, 'serve', 'web', IDLE_PORT);
      const idle = await Promise.all(
        [host.ip4, host.ip6].map((ip) => talker<HoldReport>(outer, 'hold', ip, 8026, 'shared', CLIENTS, IDLE_MS)),
      );
      for (const name of ['web', 'db']) await weft.run('detach', name);
      for (const each of idle) {
        await until(async () => (await each.report())['web']?.open === 0, { what: 'all are told' });
        t.same((await each.report())['web']?.broken, Array(CLIENTS).fill('ConnectionResetError'));
      }
    });

    await t.test('nothing stays but the forwarding of the host', async (t) => {
      t.same(await connections(weft), [], 'connections go with their endpoint');
      const remembered = async (): Promise<boolean> =>
        (await under.run(['cat', '/proc/net/nf_conntrack'])).includes('169.254.77.2');
      await until(async () => !(await remembered()), { what: 'the host to forget them, too' });
      await weft.close();
      t.same(await under.links(), ['eth0']);
      t.equal(await under.run(['nft', 'list', 'ruleset']), '');
    });
  });
}

for (const datapath of datapathKinds) nat(datapath);
