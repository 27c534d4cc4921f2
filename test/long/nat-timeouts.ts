/**
 *   ┌ client ┐ eth0 ── eth0 ┌ host ────────────────────────┐
 *   │ .2 ::2 │              │ .1 ::1 ── weft0 ── weft ─ web │
 *   └────────┘              └──────────────────────────────┘
 *     192.0.2.0/24, 2001:db8::/64             10.44.0.0/24, fd44::/64
 *
 * What docs/operations.md promises about idle connections, through both translations: UDP lives for 2 min, a ping for 1
 * min, and TCP that is closed on one side for 4 min. The client answers shortly before that, and nobody else sends
 * anything.
 *
 *     node --import=tsx test/long/nat-timeouts.ts [--datapath native]
 *
 * It waits for time to pass, 4 min for each datapath.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { outsideHost, outsideIps } from '../support/topology.ts';
import { python } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';

const SILENT_S = { ping: 50, udp: 110, halfClosed: 220 };
const [UDP_PORT, TCP_PORT] = [7001, 7002];

const { values } = parseArgs({ options: { datapath: { type: 'string' } } });
t.setTimeout(900_000);

for (const datapath of datapathKinds.filter((kind) => values.datapath === undefined || values.datapath === kind)) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const { client: outer, weft, web } = await outsideHost(lab, datapath, []);
    await outer.run(['sysctl', '-qw', 'net.ipv4.icmp_echo_ignore_all=1', 'net.ipv6.icmp.echo_ignore_all=1']);
    await outer.start(python('late_echo.py', SILENT_S.ping)).says('ready');
    await Promise.all(
      ([4, 6] as const).map(async (family) => {
        const ip = family === 4 ? outsideIps.client.ip4 : `[${outsideIps.client.ip6}]`;
        const alone = family === 6 ? ',ipv6only' : '';
        const datagrams = outer.start(['socat', '-', `UDP${family}-LISTEN:${UDP_PORT}${alone}`]);
        const server = outer.start(['socat', '-t', '600', '-', `TCP${family}-LISTEN:${TCP_PORT}${alone}`]);
        const ready = ['ss', `-${family}lntuH`, `sport = :${UDP_PORT} or sport = :${TCP_PORT}`];
        await until(async () => (await outer.run(ready)).trim().split('\n').length === 2, { what: 'both servers' });
        const ping = web.namespace.run(['ping', '-c', '1', '-W', '60', ip.replaceAll(/[[\]]/g, '')]);
        const asking = web.namespace.start(['socat', '-', `UDP:${ip}:${UDP_PORT}`]);
        asking.write('question\n');
        await datagrams.says('question');
        const half = web.namespace.start(['socat', '-t', '600', '-', `TCP:${ip}:${TCP_PORT}`]);
        half.write('all\n');
        half.end();
        await server.says('all');
        await until(async () => (await weft.client.connections()).some(({ state }) => state === 'closing'), {
          what: 'half-closed',
        });

        await ping;
        t.pass(`IPv${family}: a ping is answered after ${SILENT_S.ping} s`);
        await delay((SILENT_S.udp - SILENT_S.ping) * 1000);
        datagrams.write('late\n');
        await asking.says('late');
        t.pass(`IPv${family}: UDP is answered after ${SILENT_S.udp} s`);
        await delay((SILENT_S.halfClosed - SILENT_S.udp) * 1000);
        server.write('late\n');
        await half.says('late');
        t.pass(`IPv${family}: half-closed TCP goes on after ${SILENT_S.halfClosed} s`);
      }),
    );
  });
}
