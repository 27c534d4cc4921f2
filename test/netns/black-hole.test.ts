/**
 *   ┌ left ──────┐        ┌ router ───────────────────────┐        ┌ right ─────┐
 *   │ web ─ weft ┼────────┤ over 1300 or 1400 bytes: lost ├────────┼ weft ─ db  │
 *   └────────────┘        │ no ICMP error gets through    │        └────────────┘
 *                         └───────────────────────────────┘
 *
 * All interfaces have an MTU of 1500, and nobody ever says that the path takes
 * less: it is found out, and then TCP gets through.
 */
import t, { type Test } from 'tap';
import type { Lab, Namespace } from '../support/lab.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { attachContainer, overlay, type Family } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { transfer } from '../support/transfer.ts';
import { Weft, type DatapathKind } from '../support/weft.ts';

t.setTimeout(600_000);
t.jobs = 3;

const FOUND_MS = 40_000;
const RAISED_MS = 60_000;

const addresses = {
  ipv4: { left: ['192.0.2.1', '192.0.2.2', 24], right: ['198.51.100.1', '198.51.100.2', 24] },
  ipv6: { left: ['2001:db8:1::1', '2001:db8:1::2', 64], right: ['2001:db8:2::1', '2001:db8:2::2', 64] },
} as const;

interface Routed {
  readonly left: Namespace;
  readonly right: Namespace;
  readonly router: Namespace;
}

/** Two hosts with a router between them. As on wires: what is too large is one packet, not a superframe. */
async function routed(lab: Lab, family: Family): Promise<Routed> {
  const router = await lab.namespace('router');
  const hosts = { left: await lab.namespace('left'), right: await lab.namespace('right') };
  await router.run(['sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
  for (const side of ['left', 'right'] as const) {
    const [host, gateway, length] = addresses[family][side];
    await lab.cable(hosts[side], 'under0', router, side);
    const nodad = family === 'ipv6' ? ' nodad' : '';
    await hosts[side].ip(`addr add ${host}/${length} dev under0${nodad}`);
    await router.ip(`addr add ${gateway}/${length} dev ${side}${nodad}`);
    await hosts[side].ip(`route add default via ${gateway}`);
    const off = ['tx', 'gso', 'gro', 'tso', 'tx-udp-segmentation'].flatMap((feature) => [feature, 'off']);
    await hosts[side].run(['ethtool', '-K', 'under0', ...off]);
    await router.run(['ethtool', '-K', side, ...off]);
  }
  return { ...hosts, router };
}

/** From now on the router loses what is larger, and says nothing. */
async function digHole(router: Namespace, largest: number): Promise<void> {
  const rules = `
    table inet hole {
      chain forward {
        type filter hook forward priority 0;
        meta length > ${largest} counter drop
        icmp type { destination-unreachable, time-exceeded } drop
        icmpv6 type { destination-unreachable, packet-too-big } drop
      }
    }`;
  await router.run(['nft', '-f', '-'], { input: rules });
}

async function losesNothingInIt(t: Test, datapath: DatapathKind, family: Family, largest: number): Promise<void> {
  const lab = openLab(t);
  const { left, right, router } = await routed(lab, family);
  await digHole(router, largest);
  const [leftIp, rightIp] = [addresses[family].left[0], addresses[family].right[0]];
  const a = await Weft.up(lab, left, 'left', { datapath, underlay: leftIp, peers: [rightIp] });
  const b = await Weft.up(lab, right, 'right', { datapath, underlay: rightIp, peers: [leftIp] });
  for (const weft of [a, b]) await weft.createNetwork(overlay.create);
  const web = await attachContainer(lab, a, 'web', 11);
  const db = await attachContainer(lab, b, 'db', 21);
  await ping(web.namespace, db.ip4);

  for (const [weft, peer] of [
    [a, rightIp],
    [b, leftIp],
  ] as const) {
    await until(async () => (await weft.status()).pathSources[peer] === 'probed', {
      timeoutMs: FOUND_MS,
      what: `${peer} is behind a black hole`,
    });
    t.equal((await weft.status()).pathMtus[peer], largest);
  }
  await transfer(web.namespace, db.namespace, [db.ip4], [{ kind: 'tcp', bytes: 2_000_000 }]);
  await transfer(db.namespace, web.namespace, [web.ip4], [{ kind: 'tcp', bytes: 2_000_000 }]);
  const inner = largest - (family === 'ipv4' ? 50 : 70);
  if (inner >= 1280) await transfer(web.namespace, db.namespace, [db.ip6], [{ kind: 'tcp', bytes: 2_000_000 }]);
  t.match(await web.namespace.run(['ip', 'route', 'get', db.ip4]), new RegExp(`mtu ${inner}`), 'web was told');
  t.match(await a.run('status'), `${rightIp} (path MTU ${largest}, probed)`);
  const { stdout } = await a.attempt('doctor');
  t.match(stdout, new RegExp(`MTU ${largest} \\(found by probes.*over ${inner} bytes do not pass`));

  await router.run(['nft', 'flush', 'ruleset']);
  await until(async () => (await a.status()).pathSources[rightIp] === 'kernel', {
    timeoutMs: RAISED_MS,
    what: 'the path takes all again',
  });
  t.equal((await a.status()).pathMtus[rightIp], 1500);
  await ping(web.namespace, db.ip6, { size: 1300 });
}

for (const [datapath, family, largest] of [
  ['native', 'ipv4', 1300],
  ['native', 'ipv6', 1400],
  ['reference', 'ipv4', 1400],
] as const) {
  void t.test(`${datapath} over ${family}, ${largest} bytes`, (t) => losesNothingInIt(t, datapath, family, largest));
}
