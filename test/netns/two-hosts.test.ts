/**
 *   ┌ left ──────────────────┐              ┌ right ─────────────────┐
 *   │ a1 (11) ─┐             │              │             ┌─ b1 (21) │
 *   │          ├─ weft VXLAN─┼── underlay ──┼─VXLAN weft ─┤          │
 *   │ a2 (12) ─┘             │              │             └─ b2 (22) │
 *   └────────────────────────┘              └────────────────────────┘
 *
 * Containers of two hosts are one network over an IPv4 and an IPv6 underlay, with static peers and with a shared store (etcd
 * on the left host), and the cable carries VXLAN as others know it.
 */
import t, { type Test } from 'tap';
import { openLab } from '../support/lab.ts';
import {
  attachContainer,
  overlay,
  underlay,
  underlayLink,
  withoutOffloads,
  type Container,
  type Family,
} from '../support/topology.ts';
import { askOverUdp, ping, stream } from '../support/traffic.ts';
import { transfer, type Transfer } from '../support/transfer.ts';
import { modeName, modes, twoHosts } from '../support/two-hosts.ts';
import { captureVxlan, isDamaged, withoutProbes } from '../support/wire-capture.ts';

t.setTimeout(600_000);

const TCP_BYTES = 10_000_000;
const udpDatagrams: Transfer = { kind: 'datagrams', bytes: 80_000, segmentBytes: 1000 };

for (const mode of modes) {
  for (const family of ['ipv4', 'ipv6'] satisfies Family[]) {
    await t.test(`${modeName(mode)}, on ${family}`, async (t) => {
      const lab = openLab(t);
      const under = await underlay(lab, family);
      await withoutOffloads(under);
      const isShared = mode.store === 'etcd';
      const { left, right, createNetwork } = await twoHosts(lab, under, mode);
      t.equal((await right.status()).underlay, under.rightIp, 'it is found by the route to the peer, or to the store');
      const share = '--range 10.44.0.21-10.44.0.29 --range fd44::15-fd44::1d';
      const { mtu } = await createNetwork(overlay.create, isShared ? '' : share);
      t.equal(mtu, family === 'ipv4' ? 1450 : 1430, 'the MTU leaves room for encapsulation');

      const a1 = await attachContainer(lab, left, 'a1', 11);
      const a2 = await attachContainer(lab, left, 'a2', 12);
      const b1 = await attachContainer(lab, right, 'b1', 21);
      const b2 = await fromOwnShare('b2');
      const all = [a1, a2, b1, b2];

      async function fromOwnShare(role: string): Promise<Container> {
        const namespace = await lab.namespace(role);
        const { addresses, mac } = await right.attach(namespace, { network: overlay.network });
        if (!isShared)
          t.match(addresses, [/^10\.44\.0\.2\d$/, /^fd44::1[5-9a-d]$/], 'addresses of this host’s own share');
        else
          t.equal(new Set([...addresses, ...[a1, a2, b1].flatMap(({ ip4, ip6 }) => [ip4, ip6])]).size, 8, 'free ones');
        return { namespace, ip4: addresses[0] ?? '', ip6: addresses[1] ?? '', mac };
      }

      const withoutShare = async (t: Test): Promise<void> => {
        const namespace = await lab.namespace('none');
        const refused = await left.attempt('attach', 'none', '--network', overlay.network, '--netns', namespace.name);
        t.equal(refused.code, 1);
        t.match(refused.stderr, /--ip.*--range/);
        t.same(await namespace.links(), []);
      };
      if (!isShared) await t.test('without a share of the subnet, addresses are not chosen', withoutShare);

      await t.test('all pairs ping each other', async () => {
        for (const from of all) {
          const others = all.filter((to) => to !== from);
          await Promise.all(others.flatMap(({ ip4, ip6 }) => [ping(from.namespace, ip4), ping(from.namespace, ip6)]));
        }
        await ping(a1.namespace, b1.ip4, { size: mtu - 28 });
        await ping(a1.namespace, b1.ip6, { size: 4000 });
      });

      await t.test('TCP, UDP and questions over UDP arrive, both ways', async () => {
        for (const [from, to] of [
          [a1, b1],
          [b1, a1],
        ] as const) {
          for (const ip of [to.ip4, to.ip6]) {
            await stream(from.namespace, to.namespace, ip, { bytes: TCP_BYTES });
            await askOverUdp(from.namespace, to.namespace, ip);
          }
          await transfer(from.namespace, to.namespace, [to.ip4, to.ip6], [udpDatagrams]);
        }
      });

      await t.test('tcpdump on the underlay decodes it, and finds nothing wrong', async (t) => {
        const captured = await captureVxlan(lab, under.left, underlayLink, 5000, async () => {
          await ping(a1.namespace, b1.ip4);
          await ping(b1.namespace, a1.ip6, { size: 1000 });
          const some: Transfer = { kind: 'tcp', bytes: 300_000 };
          await transfer(a1.namespace, b1.namespace, [b1.ip4], [some, some, some, some]);
          await transfer(b1.namespace, a1.namespace, [a1.ip6], [some]);
          await askOverUdp(a1.namespace, b1.namespace, b1.ip4, 20);
        });
        const datagrams = withoutProbes(captured);
        t.ok(datagrams.length > 300, `${datagrams.length} datagrams`);
        t.same(datagrams.filter(isDamaged).slice(0, 3), [], 'checksums and lengths are right');
        t.ok(
          datagrams.every(({ outer }) => outer.includes(`vni ${overlay.vni}`)),
          'the VNI is the network’s',
        );
        for (const protocol of ['ICMP echo request', 'ICMP6, echo request', 'Flags [', 'proto UDP']) {
          t.ok(
            datagrams.some(({ inner }) => inner.includes(protocol)),
            `${protocol} is inside`,
          );
        }
        if (family === 'ipv4')
          t.ok(
            datagrams.every(({ outer }) => outer.includes('flags [DF]')),
            'DF is set',
          );
        t.ok(
          datagrams.every(({ sourcePort }) => sourcePort >= 49_152),
          'source ports are 49152 and up',
        );
        const ports = new Set(
          datagrams.filter(({ from }) => from === under.leftIp).map(({ sourcePort }) => sourcePort),
        );
        t.ok(ports.size >= 5, `flows differ in their source port: ${ports.size} ports`);
      });

      await t.test('what is behind the other host was learned from it, or is known from the store', async (t) => {
        t.same((await left.status()).fdb.learned, isShared ? {} : { [under.rightIp]: 2 });
        t.same((await right.status()).fdb.learned, isShared ? {} : { [under.leftIp]: 2 });
      });
    });
  }
}
