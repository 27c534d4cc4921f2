/**
 *   ┌ left ──────┐        ┌ router ───────────────────────┐        ┌ right ─────┐
 *   │ web ─ weft ┼────────┤ over 1300 or 1400 bytes: lost ├────────┼ weft ─ db  │
 *   └────────────┘        │ no ICMP error gets through    │        └────────────┘
 *                         └───────────────────────────────┘
 *
 * All interfaces have an MTU of 1500, and nobody ever says that the path carries less: weft
 * finds out, and then TCP gets through.
 */
import t, { type Test } from 'tap';
import type { Namespace } from '../support/lab.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { attachContainer, overlay, routedUnderlay, type Family } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { transfer } from '../support/transfer.ts';
import { modeName, twoHosts, type Mode } from '../support/two-hosts.ts';

t.setTimeout(600_000);
t.jobs = 4;

const FOUND_MS = 40_000;
const RAISED_MS = 60_000;

/** From now on the router silently drops larger packets. A store can be reached: that is the hosts' own TCP. */
async function digHole(router: Namespace, largest: number): Promise<void> {
  const rules = `
    table inet hole {
      chain forward {
        type filter hook forward priority 0;
        meta l4proto != tcp meta length > ${largest} counter drop
        icmp type { destination-unreachable, time-exceeded } drop
        icmpv6 type { destination-unreachable, packet-too-big } drop
      }
    }`;
  await router.run(['nft', '-f', '-'], { input: rules });
}

async function losesNothingInIt(t: Test, mode: Mode, family: Family, largest: number): Promise<void> {
  const lab = openLab(t);
  const under = await routedUnderlay(lab, family);
  const { leftIp, rightIp, router } = under;
  await digHole(router, largest);
  const { left: a, right: b, createNetwork } = await twoHosts(lab, under, mode);
  await createNetwork(overlay.create);
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
  t.match(await a.run('status'), `${rightIp} (${mode.store === 'etcd' ? 'up, ' : ''}path MTU ${largest}, probed)`);
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

for (const [datapath, store, family, largest] of [
  ['native', 'static peers', 'ipv4', 1300],
  ['native', 'static peers', 'ipv6', 1400],
  ['native', 'etcd', 'ipv6', 1300],
  ['reference', 'static peers', 'ipv4', 1400],
] as const) {
  const mode = { datapath, store };
  const name = `${modeName(mode)} over ${family}, ${largest} bytes`;
  void t.test(name, (t) => losesNothingInIt(t, mode, family, largest));
}
