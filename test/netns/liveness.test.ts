/**
 *   ┌ left ─────────┐              ┌ right ────────┐
 *   │ a1 (11) ─ weft┼── underlay ──┼weft ─ b1 (21) │
 *   └───────────────┘      ✂ nft   └───────────────┘
 *
 * Two hosts with a key, their own or that of a shared store, probe each other through the tunnel. What is cut, misconfigured
 * or not weft is noticed and named, and a host that is gone leaves forwarding until it is back.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { HostReport } from '../../src/model/report.ts';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { attachContainer, kernelContainer, kernelVtep, overlay, underlay } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { modeName, modes, twoHosts, type Mode } from '../support/two-hosts.ts';
import { datapathKinds, Weft, type DatapathKind } from '../support/weft.ts';

t.setTimeout(600_000);

const KEY = 'c0'.repeat(32);
const OTHER_KEY = 'd1'.repeat(32);

/** Probes come quickly, so that nothing takes long. */
function quickly(lab: Lab): string[] {
  const path = join(lab.directory, 'quick.yaml');
  writeFileSync(path, 'liveness: { intervalMs: 100, multiplier: 3 }\n');
  return ['--config', path];
}

/** Drops UDP 4789 that comes in or goes out there, until it is mended. */
async function cut(at: Namespace, ...hooks: ('input' | 'output')[]): Promise<() => Promise<void>> {
  const chains = hooks.map(
    (hook) => `chain ${hook} { type filter hook ${hook} priority -300; udp dport 4789 drop; }\n`,
  );
  await at.run(['nft', '-f', '-'], { input: `table inet cut {\n${chains.join('')}}\n` });
  return async () => void (await at.run(['nft', 'delete', 'table', 'inet', 'cut']));
}

async function peerOf(weft: Weft): Promise<HostReport> {
  const [peer] = await weft.client.hosts();
  return peer!;
}

const becomes = (weft: Weft, state: HostReport['state'], why?: string): Promise<unknown> =>
  until(
    async () => {
      const peer = await peerOf(weft);
      return peer.state === state && peer.why === why;
    },
    { what: `the peer is ${state}${why === undefined ? '' : `: ${why}`}` },
  );

const clashes = async (weft: Weft, text: RegExp): Promise<unknown> =>
  until(async () => (await weft.client.status()).clashes.some(({ detail }) => text.test(detail)), {
    what: `a clash says ${text}`,
  });

async function withKeys(lab: Lab, datapath: DatapathKind, keys = { left: KEY, right: KEY }) {
  const under = await underlay(lab, 'ipv4');
  const up = (side: 'left' | 'right', peer: string): Promise<Weft> =>
    Weft.up(lab, under[side], side, { datapath, peers: [`${peer},${keys[side]}`], arguments: quickly(lab) });
  return { under, left: await up('left', under.rightIp), right: await up('right', under.leftIp) };
}

/** With a store, the hosts find each other and their key there. */
async function probing(lab: Lab, mode: Mode) {
  if (mode.store === 'static peers') {
    const { under, left, right } = await withKeys(lab, mode.datapath);
    for (const weft of [left, right]) await weft.createNetwork(overlay.create);
    return { under, left, right };
  }
  const under = await underlay(lab, 'ipv4');
  const { left, right, createNetwork } = await twoHosts(lab, under, mode, { arguments: quickly(lab) });
  await createNetwork(overlay.create);
  return { under, left, right };
}

for (const mode of modes) {
  await t.test(`${modeName(mode)}: two hosts that probe each other`, async (t) => {
    const lab = openLab(t);
    const { under, left, right } = await probing(lab, mode);
    const a1 = await attachContainer(lab, left, 'a1', 11);
    const b1 = await attachContainer(lab, right, 'b1', 21);
    await becomes(left, 'up');
    await becomes(right, 'up');
    await ping(a1.namespace, b1.ip4);

    const isShown = async (t: Test): Promise<void> => {
      await until(async () => (await peerOf(left)).lossIn.of >= 10, { what: 'ten probes have come' });
      const peer = await peerOf(left);
      t.ok(peer.roundTripMs !== null && peer.roundTripMs >= 0);
      t.equal(peer.lossIn.lost, 0);
      t.same(peer.vnis, [overlay.vni]);
      t.match(await left.run('hosts'), /^NAME\s+UNDERLAY\s+STATE.*\n-\s+\S+\s+up\s+[\d.]+ms\s+0%\s+0%\s+1500/);
      t.match(await left.run('hosts', '-o', 'wide'), /VNIS.*\n.*\s4660\s/);
      t.equal(await left.run('hosts', '-o', 'name'), `host/${under.rightIp}\n`);
      t.match(await left.run('status'), `${under.rightIp} (up, path MTU 1500)`);
      t.match(await left.run('doctor'), new RegExp(`tunnel ${under.rightIp}\\s+ok\\s+answers probes in`));
      t.same((await left.client.status()).clashes, []);
    };
    if (mode.store === 'static peers') await t.test('the way is known, and shown', isShown);

    await t.test('a host that loses power leaves forwarding, and is back at once', async (t) => {
      const mend = await cut(under.right, 'input', 'output');
      await becomes(left, 'down', 'nothing is heard from it');
      await becomes(right, 'down', 'nothing is heard from it');
      const traced = await left.run('trace', `in_port=a1,icmp,ip_dst=${b1.ip4},eth_dst=${b1.mac}`);
      t.match(traced, /behind VTEP \S+, which is down/);
      t.match(traced, 'drop(vtep_down)');
      await until(
        async () => {
          await a1.namespace.attempt(['ping', '-c', '1', '-W', '1', b1.ip4]);
          return ((await left.client.status()).datapath.drops['vtep_down'] ?? 0) > 0;
        },
        { what: 'frames are refused' },
      );
      t.match((await left.attempt('doctor')).stdout, /tunnel \S+\s+failed\s+down since/);
      await mend();
      await becomes(left, 'up');
      await becomes(right, 'up');
      await ping(a1.namespace, b1.ip4);
      t.match(
        await left.run('trace', `in_port=a1,icmp,ip_dst=${b1.ip4},eth_dst=${b1.mac}`),
        mode.store === 'static peers'
          ? /Then: if weft runs on \S+, that decides whether policies let it in/
          : /Then: whether policies let it in is decided on host \S+, as it arrives: a PolicyTest asks both ends/,
        'who decides about it is known',
      );
    });

    await t.test('a way that is cut in one direction is named on both sides', async () => {
      const mend = await cut(under.left, 'output');
      await becomes(right, 'down', 'nothing is heard from it');
      await becomes(left, 'down', 'it does not hear this host');
      await clashes(left, /does not hear this host, but its probes arrive here/);
      await mend();
      await becomes(left, 'up');
      await becomes(right, 'up');
    });

    const isNamed = async (t: Test): Promise<void> => {
      await left.createNetwork('odd --subnet 10.55.0.0/24 --vni 77');
      await clashes(left, /has no network with VNI 77 \("odd" here\)/);
      t.match((await left.attempt('doctor')).stdout, /clash\s+warning\s+peer \S+ has no network with VNI 77/);
      await right.createNetwork('odd --subnet 10.55.0.0/24 --vni 77');
      await until(async () => (await left.client.status()).clashes.length === 0, { what: 'nothing clashes' });
    };
    if (mode.store === 'static peers') await t.test('a network whose VNI the peer does not have is named', isNamed);

    await t.test('a host that is started again is up again by itself', async (t) => {
      await right.stop();
      await right.start();
      await becomes(right, 'up');
      await becomes(left, 'up');
      await ping(a1.namespace, b1.ip4);
      t.equal((await left.client.status()).datapath.drops['probe_unauthentic'], undefined);
    });
  });
}

for (const datapath of datapathKinds) {
  await t.test(`${datapath}: different keys`, async (t) => {
    const lab = openLab(t);
    const { left, right } = await withKeys(lab, datapath, { left: KEY, right: OTHER_KEY });
    for (const weft of [left, right]) {
      await clashes(weft, /has not answered any probe on UDP 4789/);
      await clashes(weft, /have a wrong key/);
      await becomes(weft, 'unprobed', 'it has not answered a probe yet');
    }
    t.ok(((await left.client.status()).datapath.drops['probe_unauthentic'] ?? 0) > 0);
  });

  await t.test(`${datapath}: one side alone has the other as a peer`, async (t) => {
    const lab = openLab(t);
    const under = await underlay(lab, 'ipv4');
    const right = await Weft.up(lab, under.right, 'right', { datapath, underlay: under.rightIp });
    const left = await Weft.up(lab, under.left, 'left', {
      datapath,
      peers: [`${under.rightIp},${KEY}`],
      arguments: quickly(lab),
    });
    await clashes(right, /probes this host, and is no peer of it/);
    await clashes(left, /has not answered any probe/);
    t.match((await right.attempt('doctor')).stdout, `give weft up --peer ${under.leftIp},KEY here`);
  });

  await t.test(`${datapath}: the kernel’s VXLAN device is unprobed, never down`, async (t) => {
    const lab = openLab(t);
    const under = await underlay(lab, 'ipv4');
    const weft = await Weft.up(lab, under.left, 'left', {
      datapath,
      peers: [`${under.rightIp},${KEY}`],
      arguments: quickly(lab),
    });
    await weft.createNetwork(overlay.create);
    const a1 = await attachContainer(lab, weft, 'a1', 11);
    await kernelVtep(under.right, under.rightIp, under.leftIp, 1450);
    const k1 = await kernelContainer(lab, under.right, 'k1', 31, 1450);
    const sent = async (): Promise<number> => (await weft.client.status()).datapath.originated;
    await until(async () => (await sent()) > 20, { what: 'twenty probes went out' });
    t.equal((await peerOf(weft)).state, 'unprobed');
    await ping(a1.namespace, k1.ip4);
  });
}

await t.test('a key is never shown, neither by errors nor by status', async (t) => {
  const lab = openLab(t);
  const under = await underlay(lab, 'ipv4');
  const weft = await Weft.up(lab, under.left, 'left', { datapath: 'native', peers: [`${under.rightIp},${KEY}`] });
  for (const verb of ['status', 'hosts', 'doctor']) t.notMatch((await weft.attempt(verb, '-o', 'json')).stdout, KEY);
  t.notMatch(weft.log(), KEY);
});
