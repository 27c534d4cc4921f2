/**
 *   ┌ left ──────────────────┐              ┌ right, without weft ─────────┐
 *   │ a1 (11) ─┐             │              │               ┌─ k1 (31)     │
 *   │          ├─ weft VXLAN─┼── underlay ──┼─ vxlan0 ─ br0 ┤  learning on │
 *   │ a2 (12) ─┘             │              │               └─ k2 (32)     │
 *   └────────────────────────┘              └──────────────────────────────┘
 *
 * weft and the kernel's own bridge and vxlan device are one network, also where weft has a shared store, in which the other
 * host is declared.
 */
import t from 'tap';
import { startEtcd } from '../support/etcd.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { run } from '../support/process.ts';
import {
  attachContainer,
  kernelContainer,
  kernelVtep,
  overlay,
  overlayMtu,
  underlay,
  underlayLink,
  withoutOffloads,
  type Underlay,
} from '../support/topology.ts';
import { askOverUdp, ping, stream } from '../support/traffic.ts';
import { transfer, type Transfer } from '../support/transfer.ts';
import { modeName, modes, type Mode } from '../support/two-hosts.ts';
import { Weft } from '../support/weft.ts';
import { captureVxlan, isDamaged } from '../support/wire-capture.ts';

t.setTimeout(600_000);

const TCP_BYTES = 10_000_000;
const udpDatagrams: Transfer = { kind: 'datagrams', bytes: 80_000, segmentBytes: 1000 };

/** weft on the left host, with the right one as its peer. */
async function startWeft(lab: Lab, { left, leftIp, rightIp }: Underlay, { datapath, store }: Mode): Promise<Weft> {
  const options = { datapath, underlay: leftIp };
  if (store === 'static peers') return Weft.up(lab, left, 'left', { ...options, peers: [rightIp] });
  const etcd = await startEtcd(lab, { members: [{ namespace: left, address: leftIp }] });
  const weft = await Weft.up(lab, left, 'left', { ...options, arguments: ['--store', etcd.url] });
  const host = { apiVersion: 'weft.dev/v1', kind: 'Host', metadata: { name: 'right' }, spec: { underlay: rightIp } };
  await run(weft.command(['apply', '-f', '-']), { input: JSON.stringify(host) });
  return weft;
}

for (const mode of modes) {
  for (const family of mode.store === 'etcd' ? (['ipv4'] as const) : (['ipv4', 'ipv6'] as const)) {
    await t.test(`${modeName(mode)} on ${family}`, async (t) => {
      const lab = openLab(t);
      const under = await underlay(lab, family);
      const mtu = overlayMtu[family];
      const weft = await startWeft(lab, under, mode);
      await weft.createNetwork(overlay.create);
      const a1 = await attachContainer(lab, weft, 'a1', 11);
      const a2 = await attachContainer(lab, weft, 'a2', 12);
      await kernelVtep(under.right, under.rightIp, under.leftIp, mtu);
      const k1 = await kernelContainer(lab, under.right, 'k1', 31, mtu);
      const k2 = await kernelContainer(lab, under.right, 'k2', 32, mtu);

      await t.test('each pings those of the other side', async () => {
        for (const [from, to] of [
          [a1, k1],
          [k1, a1],
          [a2, k2],
          [k2, a1],
        ] as const) {
          await ping(from.namespace, to.ip4);
          await ping(from.namespace, to.ip6);
        }
        await ping(a1.namespace, k1.ip4, { size: mtu - 28 });
        await ping(k1.namespace, a1.ip6, { size: 4000 });
      });

      // Like two hosts of one machine: the kernel leaves inner checksums to a network card that does not exist.
      await t.test('TCP and UDP arrive with the offloads of a veth', async () => {
        for (const [from, to] of [
          [a1, k1],
          [k1, a1],
        ] as const) {
          await stream(from.namespace, to.namespace, to.ip4, { bytes: TCP_BYTES });
          await askOverUdp(from.namespace, to.namespace, to.ip6, 20);
        }
      });

      await withoutOffloads(under);
      await t.test('TCP, UDP and questions over UDP arrive as on a wire, both ways', async () => {
        for (const [from, to] of [
          [a1, k1],
          [k1, a1],
        ] as const) {
          for (const ip of [to.ip4, to.ip6]) {
            await stream(from.namespace, to.namespace, ip, { bytes: TCP_BYTES });
            await askOverUdp(from.namespace, to.namespace, ip, 20);
          }
          await transfer(from.namespace, to.namespace, [to.ip4, to.ip6], [udpDatagrams]);
        }
      });

      await t.test('tcpdump on the underlay decodes it, and finds nothing wrong', async (t) => {
        const datagrams = await captureVxlan(lab, under.right, underlayLink, 1000, async () => {
          await ping(a1.namespace, k1.ip4);
          await ping(k1.namespace, a1.ip6);
          const some: Transfer = { kind: 'tcp', bytes: 300_000 };
          await transfer(a1.namespace, k1.namespace, [k1.ip4], [some]);
          await transfer(k1.namespace, a1.namespace, [a1.ip6], [some]);
        });
        t.ok(datagrams.length > 300, `${datagrams.length} datagrams`);
        t.same(datagrams.filter(isDamaged).slice(0, 3), [], 'checksums and lengths are right');
      });

      await t.test('the kernel has learned what is behind weft, and weft what is behind the kernel', async (t) => {
        const fdb = await under.right.run(['bridge', 'fdb', 'show', 'dev', 'vxlan0']);
        for (const { mac } of [a1, a2]) t.match(fdb, new RegExp(`${mac} dst ${under.leftIp.replaceAll('.', '\\.')}`));
        const { learned } = (await weft.status()).fdb;
        t.ok((learned[under.rightIp] ?? 0) >= 2, JSON.stringify(learned));
      });
    });
  }
}
