/**
 *   a ── br0 ── vxlan0 ══ underlay ══ vxlan0 ── br0 ── b        (no weft here)
 *
 * The lab itself: two hosts with the kernel's own vxlan talk to each other, real programs
 * measure it, tcpdump finds nothing wrong, and nothing is left at the end.
 */
import { existsSync } from 'node:fs';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { isAlive, until } from '../support/process.ts';
import {
  kernelContainer,
  kernelVtep,
  overlayMtu,
  underlay,
  underlayLink,
  withoutOffloads,
  type Family,
} from '../support/topology.ts';
import { askOverUdp, isUnreachable, ping, sendFrames, Sniffer } from '../support/traffic.ts';
import { transfer } from '../support/transfer.ts';
import { captureVxlan, isDamaged } from '../support/wire-capture.ts';
import { udp } from '../support/frames.ts';

t.setTimeout(600_000);

for (const family of ['ipv4', 'ipv6'] satisfies Family[]) {
  await t.test(`hosts of the kernel talk over VXLAN on ${family}`, async (t) => {
    const lab = openLab(t);
    const mtu = overlayMtu[family];
    const under = await underlay(lab, family);
    await withoutOffloads(under);
    await kernelVtep(under.left, under.leftIp, under.rightIp, mtu);
    await kernelVtep(under.right, under.rightIp, under.leftIp, mtu);
    const a = await kernelContainer(lab, under.left, 'a', 11, mtu);
    const b = await kernelContainer(lab, under.right, 'b', 12, mtu);

    const datagrams = await captureVxlan(lab, under.left, underlayLink, 500, async () => {
      await ping(a.namespace, b.ip4);
      await ping(a.namespace, b.ip6, { size: 1000 });
      await transfer(a.namespace, b.namespace, [b.ip4], [{ kind: 'tcp', bytes: 200_000 }]);
      await askOverUdp(a.namespace, b.namespace, b.ip6, 5);
    });
    t.ok(datagrams.length > 20, `tcpdump decoded ${datagrams.length} datagrams`);
    t.same(datagrams.filter(isDamaged), [], 'none of them damaged');
    t.ok(
      datagrams.every(({ outer }) => outer.includes('vni 4660')),
      'all of the VNI',
    );
    t.ok(
      datagrams.some(({ inner }) => inner.includes('ICMP echo request')),
      'with what is inside',
    );

    const sniffer = await Sniffer.open(b.namespace);
    const frame = udp({ srcMac: a.mac, dstMac: b.mac, src: a.ip4, dst: b.ip4 }, 4000, 4001, Buffer.from('hello'));
    await sendFrames(a.namespace, [frame]);
    await sniffer.sees(frame, 'a frame sent as it is');
    t.notOk(sniffer.hasSeen(frame.subarray(1)), 'and no other');
    t.ok(await isUnreachable(a.namespace, '10.44.0.99'));
  });
}

await t.test('a lab leaves nothing behind', async (t) => {
  let path = '';
  let pid = 0;
  let directory = '';
  await t.test('made and used', async (t) => {
    const lab = openLab(t);
    const namespace = await lab.namespace('gone');
    ({ path } = namespace);
    ({ directory } = lab);
    ({ pid } = namespace.start(['sleep', '1000']));
    t.ok(existsSync(path) && isAlive(pid) && existsSync(directory));
  });
  await until(() => !isAlive(pid), { what: 'the process gone' });
  t.notOk(existsSync(path), 'no namespace');
  t.notOk(existsSync(directory), 'no files');
});

await t.test('a condition that does not come true fails with what was waited for', async (t) => {
  await t.rejects(
    until(() => false, { timeoutMs: 50, what: 'the end of the world' }),
    /after 50 ms still not: the end of the world/,
  );
});
