/**
 *   one host:       a ── weft ── b
 *   weft and weft:  a ── weft ══ underlay ══ weft ── b
 *   weft, kernel:   a ── weft ══ underlay ══ vxlan0 ── br0 ── b
 *
 * Superframes that leave one container arrive in the other byte for byte, TCP and UDP, over
 * IPv4 and IPv6. The underlay carries only packets that a wire would carry.
 */
import t, { type Test } from 'tap';
import type { StatusReport } from '../../src/model/report.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import {
  attachContainer,
  kernelContainer,
  kernelVtep,
  likeAWire,
  oneHost,
  overlay,
  overlayMtu,
  underlay,
  underlayLink,
  withoutOffloads,
  type Container,
  type Underlay,
} from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { transfer, type Transfer } from '../support/transfer.ts';
import { dropsOf, modeName, modes, twoHosts, type Mode } from '../support/two-hosts.ts';
import { datapathKinds, Weft } from '../support/weft.ts';
import { captureVxlan, isDamaged } from '../support/wire-capture.ts';

t.setTimeout(600_000);

const TCP_BYTES = 2_000_000;
const UDP_BYTES = 300_000;
const tcp: Transfer = { kind: 'tcp', bytes: TCP_BYTES };
const tcpInSmallSegments: Transfer = { kind: 'tcp', bytes: 200_001, segmentBytes: 536 };
const udp: Transfer = { kind: 'udp', bytes: UDP_BYTES, segmentBytes: 1370 };
const udpInSmallSegments: Transfer = { kind: 'udp', bytes: 100_001, segmentBytes: 60 };
const all = [tcp, tcpInSmallSegments, udp, udpInSmallSegments];

/** For both families. */
const transfers = (from: Container, to: Container, list: readonly Transfer[]): Promise<void> =>
  transfer(from.namespace, to.namespace, [to.ip4, to.ip6], list);

/** Switches a container's offloads off, as somebody who distrusts them would. */
async function offloadsOff({ namespace }: Container): Promise<void> {
  await namespace.run(['ethtool', '-K', 'eth0', ...['tso', 'gso', 'tx'].flatMap((feature) => [feature, 'off'])]);
}

/** What was counted while `action` ran. */
async function counted(weft: Weft, action: () => Promise<void>) {
  const before = await weft.status();
  await action();
  const after = await weft.status();
  const meanRxBytes = (name: string): number => {
    const [was, is] = [before, after].map(({ ports }) => ports.find((port) => port.name === name)!);
    return (is!.rxBytes - was!.rxBytes) / (is!.rxFrames - was!.rxFrames);
  };
  const difference = (counter: 'segments' | 'coalesced'): number => after.datapath[counter] - before.datapath[counter];
  return { segments: difference('segments'), coalesced: difference('coalesced'), meanRxBytes };
}

function noDrops(t: Test, mode: Mode, before: StatusReport, after: StatusReport): void {
  t.same(dropsOf(after, mode), dropsOf(before, mode), `${after.host}: nothing is dropped`);
}

/** Neither host may send or receive superframes now: tcpdump sees what a wire would carry. */
async function nothingWrong(
  t: Test,
  lab: Lab,
  under: Underlay,
  count: number,
  action: () => Promise<void>,
): Promise<void> {
  await withoutOffloads(under);
  const datagrams = await captureVxlan(lab, under.left, underlayLink, count, action);
  t.equal(datagrams.length, count, `${count} datagrams on the underlay`);
  t.same(datagrams.filter(isDamaged).slice(0, 3), [], 'checksums and lengths are right');
}

interface Wire {
  readonly under: Underlay;
  readonly left: Weft;
  readonly right: Weft;
  readonly a: Container;
  readonly b: Container;
}

/** Two hosts with weft on a wire. */
async function onAWire(lab: Lab, mode: Mode, mtu: 1500 | 9000): Promise<Wire> {
  const under = await underlay(lab, 'ipv4');
  await likeAWire(under);
  for (const host of [under.left, under.right]) await host.ip(`link set ${underlayLink} mtu ${mtu}`);
  const { left, right, createNetwork } = await twoHosts(lab, under, mode);
  await createNetwork(`${overlay.create} --mtu ${mtu - 50}`);
  const a = await attachContainer(lab, left, 'a', 11);
  const b = await attachContainer(lab, right, 'b', 21);
  await ping(a.namespace, b.ip4);
  await ping(a.namespace, b.ip6);
  return { under, left, right, a, b };
}

for (const datapath of datapathKinds) {
  await t.test(`${datapath}: one host`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const { weft, web, db } = await oneHost(lab, datapath);
    await ping(web.namespace, db.ip4);
    await ping(web.namespace, db.ip6);
    const before = await weft.status();

    await t.test('superframes pass uncut', async (t) => {
      for (const each of [tcp, udp]) {
        const { segments, meanRxBytes } = await counted(weft, () => transfers(web, db, [each]));
        t.ok(meanRxBytes('web') > 3000, `${each.kind}: ${meanRxBytes('web').toFixed(0)} bytes a frame`);
        t.equal(segments, 0, 'none is cut');
      }
      await transfers(db, web, all);
    });

    await t.test('from and to a container without offloads', async (t) => {
      await offloadsOff(db);
      const { meanRxBytes } = await counted(weft, () => transfers(db, web, all));
      t.ok(meanRxBytes('db') < 1600, `${meanRxBytes('db').toFixed(0)} bytes a frame`);
      await transfers(web, db, all);
    });
    noDrops(t, { datapath, store: 'static peers' }, before, await weft.status());
  });
}

for (const mode of modes) {
  await t.test(`${modeName(mode)}: weft and weft`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const { under, left, right, a, b } = await onAWire(lab, mode, 1500);
    const before = [await left.status(), await right.status()] as const;

    await t.test('superframes are cut on one side and made again on the other', async (t) => {
      for (const each of all) {
        const { coalesced } = await counted(right, async () => {
          const { segments } = await counted(left, () => transfers(a, b, [each]));
          t.ok(segments > 0, `${JSON.stringify(each)}: ${segments} segments`);
        });
        t.ok(coalesced > 0, `${coalesced} coalesced`);
      }
      await transfers(b, a, all);
    });

    await t.test('nothing is wrong with what is on the underlay', async (t) => {
      await nothingWrong(t, lab, under, 2000, async () => {
        await transfers(a, b, [{ ...tcp, bytes: 1_000_000 }, udp, udpInSmallSegments]);
      });
    });

    await t.test('from and to a container without offloads', async () => {
      await offloadsOff(a);
      await transfers(a, b, [tcp, udp]);
      await transfers(b, a, [tcp, udp]);
    });
    noDrops(t, mode, before[0], await left.status());
    noDrops(t, mode, before[1], await right.status());
  });

  await t.test(`${modeName(mode)}: weft and weft on an underlay of 9000 bytes`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const { under, left, right, a, b } = await onAWire(lab, mode, 9000);
    const { coalesced } = await counted(right, async () => {
      const { segments } = await counted(left, () => transfers(a, b, [tcp, { ...udp, segmentBytes: 8900 }]));
      t.ok(segments > 0, `${segments} segments`);
    });
    t.ok(coalesced > 0, `${coalesced} coalesced`);
    await nothingWrong(t, lab, under, 500, () => transfers(b, a, all));
  });
}

for (const datapath of datapathKinds) {
  await t.test(`${datapath}: weft and the kernel`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const under = await underlay(lab, 'ipv4');
    await likeAWire(under);
    const weft = await Weft.up(lab, under.left, 'left', { datapath, underlay: under.leftIp, peers: [under.rightIp] });
    await weft.createNetwork(overlay.create);
    const a = await attachContainer(lab, weft, 'a', 11);
    await kernelVtep(under.right, under.rightIp, under.leftIp, overlayMtu.ipv4);
    const k = await kernelContainer(lab, under.right, 'k', 31, overlayMtu.ipv4);
    await ping(a.namespace, k.ip4);
    await ping(a.namespace, k.ip6);

    const sent = await counted(weft, () => transfers(a, k, all));
    t.ok(sent.segments > 0, `to the kernel: ${sent.segments} segments`);
    const received = await counted(weft, () => transfers(k, a, all));
    t.ok(received.coalesced > 0, `from the kernel: ${received.coalesced} coalesced`);
    await nothingWrong(t, lab, under, 1000, async () => {
      await transfers(a, k, [{ ...tcp, bytes: 400_000 }, udpInSmallSegments]);
      await transfers(k, a, [{ ...tcp, bytes: 400_000 }]);
    });
    await offloadsOff(a);
    await transfers(a, k, [tcp, udp]);
    await transfers(k, a, [tcp, udp]);
  });
}
