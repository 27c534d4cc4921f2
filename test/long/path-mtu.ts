/**
 *   ┌ left ──────┐   MTU 1500, then 1300   ┌ right ─────────┐
 *   │ web ─ weft ┼────────underlay─────────┼ weft ─┬ db     │
 *   └────────────┘                         │       └ shop   │
 *                                          └────────────────┘
 *
 * A TCP session like that of a remote shell, while the MTU of the underlay becomes smaller:
 * within a network (db), routed into another (shop), and translated to the outside (right
 * itself); in IPv4 and IPv6, over IPv4 and IPv6.
 *
 *     node --import=tsx test/long/path-mtu.ts [--datapath native]
 *
 * Fails if a session breaks, or pauses for more than 2 s.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import t from 'tap';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { monotonicMs, until } from '../support/process.ts';
import { attachContainer, overlay, underlay, underlayLink, withoutOffloads, type Family } from '../support/topology.ts';
import { ping, python } from '../support/traffic.ts';
import { modeName, modes, twoHosts, type Mode } from '../support/two-hosts.ts';

const LIMIT_MS = 2000;
const SESSION_PORT = 7022;
/** Answers to wait for, before and after the change. */
const ANSWERS = 20;

const red = ['10.45.0.21', 'fd45::21'] as const;
const networks = `
apiVersion: weft.dev/v1
kind: Network
metadata: { name: ${overlay.network} }
spec:
  subnets: ${JSON.stringify(overlay.subnets)}
  vni: ${overlay.vni}
  outside: true
  routes: [{ to: 10.45.0.0/24, network: red }, { to: 'fd45::/64', network: red }]
---
apiVersion: weft.dev/v1
kind: Network
metadata: { name: red }
spec:
  subnets: [10.45.0.0/24, 'fd45::/64']
  vni: 4661
  routes: [{ to: 10.44.0.0/24, network: ${overlay.network} }, { to: 'fd44::/64', network: ${overlay.network} }]
`;

const { values } = parseArgs({ options: { datapath: { type: 'string' } } });
t.setTimeout(900_000);

for (const mode of modes.filter(({ datapath }) => values.datapath === undefined || values.datapath === datapath)) {
  for (const family of ['ipv4', 'ipv6'] satisfies Family[]) {
    await t.test(`${modeName(mode)} over ${family}`, async (t) => {
      const lab = openLab(t);
      const { under, wefts, web, db, shop } = await place(lab, mode, family);

      const setMtu = async (mtu: number): Promise<void> => {
        for (const host of [under.left, under.right]) await host.ip(`link set ${underlayLink} mtu ${mtu}`);
      };
      /** Makes the path look as if its MTU had never been smaller. */
      const restore = async (): Promise<void> => {
        await setMtu(1500);
        await until(
          async () =>
            (await Promise.all(wefts.map((weft) => weft.status()))).every(({ pathMtus }) =>
              Object.values(pathMtus).every((mtu) => mtu === 1500),
            ),
          { what: 'both hosts know that the path takes 1500 bytes' },
        );
        for (const namespace of [web, db, shop, under.left, under.right])
          for (const f of ['-4', '-6']) await namespace.ip(`${f} route flush cache`);
      };

      // An IPv6 packet is at least 1280 bytes, and 70 more in the tunnel over IPv6.
      const [db4, db6] = ['10.44.0.21', 'fd44::15'];
      for (const [way, to, ip, mtu] of [
        ['switched', db, db4, 1300],
        ['switched', db, db6, 1400],
        ['routed', shop, red[0], 1300],
        ['routed', shop, red[1], 1400],
        ['translated', under.right, under.rightIp, 1300],
      ] as const) {
        await restore();
        const pauseMs = await longestPause(web, to, ip, () => setMtu(mtu));
        t.ok(pauseMs <= LIMIT_MS, `${way}, to ${ip}, MTU ${mtu}: it stood still for ${pauseMs.toFixed(0)} ms`);
      }
    });
  }
}

async function place(lab: Lab, mode: Mode, family: Family) {
  const under = await underlay(lab, family);
  await withoutOffloads(under);
  const { left, right, hosts, apply } = await twoHosts(lab, under, mode);
  const file = join(lab.directory, 'networks.yaml');
  writeFileSync(file, networks);
  await apply(file);
  const { namespace: web } = await attachContainer(lab, left, 'web', 11);
  const { namespace: db } = await attachContainer(lab, right, 'db', 21);
  const shop = await lab.namespace('shop');
  await right.attach(shop, { network: 'red', arguments: red.flatMap((ip) => ['--ip', ip]) });
  return { under, wefts: hosts, web, db, shop };
}

/** The longest pause of a session in progress, in milliseconds, measured from shortly before `event`. */
async function longestPause(from: Namespace, to: Namespace, ip: string, event: () => Promise<void>): Promise<number> {
  await ping(from, ip);
  const session = to.start(python('session.py', 'serve', SESSION_PORT));
  await session.says('ready');
  const asking = from.start(python('session.py', 'ask', ip, SESSION_PORT));
  await until(() => asking.lines.length >= ANSWERS, { what: 'the session is under way' });
  const eventAtMs = monotonicMs();
  await event();
  await until(() => asking.lines.filter(({ atMs }) => atMs > eventAtMs).length >= ANSWERS, {
    what: 'the session goes on',
  });
  const first = asking.lines.findLastIndex(({ atMs }) => atMs <= eventAtMs);
  const times = asking.lines.slice(first).map(({ atMs }) => atMs);
  await asking.stop();
  await session.stop();
  return Math.max(...times.slice(1).map((atMs, i) => atMs - times[i]!));
}
