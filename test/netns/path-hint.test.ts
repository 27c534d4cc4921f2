/**
 *   ┌ left ──────┐        ┌ router ┐        ┌ right ─────┐
 *   │ web ─ weft ┼────────┤        ├────────┼ weft ─ db  │
 *   └────────────┘        └────────┘        └────────────┘
 *
 * What ICMP errors say about a path is tested before it is believed: anybody can forge one, but
 * a router with a smaller MTU also sends one.
 */
import t, { type Test } from 'tap';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { attachContainer, overlay, routedUnderlay, underlayLink, type Family } from '../support/topology.ts';
import { ping, python } from '../support/traffic.ts';
import { transfer } from '../support/transfer.ts';
import { modeName, twoHosts, type Mode } from '../support/two-hosts.ts';

t.setTimeout(600_000);
t.jobs = 2;

/** UDP ports from which a host sends VXLAN. */
async function sourcePorts(host: Namespace): Promise<string[]> {
  const { stdout } = await host.attempt(['ss', '-Huan']);
  const ports = [...stdout.matchAll(/:(\d+)\s/g)].map(([, port]) => Number(port));
  return [...new Set(ports.filter((port) => port > 49_152))].map(String);
}

async function believesNothingFalse(t: Test, mode: Mode, family: Family): Promise<void> {
  const lab = openLab(t);
  const under = await routedUnderlay(lab, family);
  const { left, right, leftIp, rightIp, router } = under;
  const { left: a, right: b, createNetwork } = await twoHosts(lab, under, mode);
  await createNetwork(overlay.create);
  const web = await attachContainer(lab, a, 'web', 11);
  const db = await attachContainer(lab, b, 'db', 21);
  await ping(web.namespace, db.ip4);

  const ports = await sourcePorts(left);
  t.ok(ports.length >= 32, `${ports.length} ports`);
  t.ok(
    ports.some((port) => Number(port) > 49_153 + 1000),
    'of the whole range',
  );
  const ofKernel = async (): Promise<string> => (await left.run(['ip', 'route', 'get', rightIp])).replace(/\s+/g, ' ');
  const [, mac] = /link\/ether (\S+)/.exec(await left.ip(`link show ${underlayLink}`))!;
  const [forged, floor] = family === 'ipv4' ? [68, 552] : [1280, 1280];
  const pathOf = async (): Promise<readonly [number | undefined, string | undefined]> => {
    const { pathMtus, pathSources } = await a.status();
    return [pathMtus[rightIp], pathSources[rightIp]];
  };
  const forge = python('forge_too_big.py', 'left', mac!, leftIp, rightIp, String(forged), ...ports);
  await router.run(forge);
  await until(async () => new RegExp(`mtu (lock )?${floor}`).test(await ofKernel()), {
    what: 'the kernel believes it',
  });
  await transfer(web.namespace, db.namespace, [db.ip4, db.ip6], [{ kind: 'tcp', bytes: 2_000_000 }]);
  t.same(await pathOf(), [1500, 'kernel'], 'weft does not');
  t.notMatch(await web.namespace.run(['ip', 'route', 'get', db.ip4]), /mtu/, 'and tells nobody');
  t.notOk('underlay_mtu' in (await a.drops()));

  // What a router truthfully says is believed once a probe has confirmed it.
  const largest = 1400;
  for (const f of ['-4', '-6']) await left.ip(`${f} route flush cache`);
  await router.ip(`link set right mtu ${largest}`);
  await right.ip(`link set ${underlayLink} mtu ${largest}`);
  const sending = transfer(web.namespace, db.namespace, [db.ip4, db.ip6], [{ kind: 'tcp', bytes: 2_000_000 }]);
  await until(async () => (await pathOf())[0] === largest, { what: 'the path takes less' });
  t.same(await pathOf(), [largest, 'probed']);
  await sending;
  await router.run(forge);
  await transfer(web.namespace, db.namespace, [db.ip4, db.ip6], [{ kind: 'tcp', bytes: 200_000 }]);
  t.same(await pathOf(), [largest, 'probed'], 'and nothing less');
}

for (const [datapath, store, family] of [
  ['native', 'static peers', 'ipv4'],
  ['native', 'static peers', 'ipv6'],
  ['native', 'etcd', 'ipv4'],
  ['reference', 'static peers', 'ipv4'],
] as const) {
  const mode = { datapath, store };
  void t.test(`${modeName(mode)} over ${family}`, (t) => believesNothingFalse(t, mode, family));
}
