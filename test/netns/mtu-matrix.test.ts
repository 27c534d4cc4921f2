/**
 *   a576 ─┐                                          ┌─ b576
 *     ⋮   ├─ weft ══ underlay, IPv4 or IPv6 ══ weft ─┤    ⋮
 *   a8950 ┘                                          └─ b8950
 *
 * Every byte arrives and every checksum is right, whatever the MTU, and whatever a container
 * leaves to its interface: segmenting, completing checksums, both or neither. (A kernel that
 * segments later cannot complete checksums before, so there is no fourth case.) tcpdump is the
 * judge, on an underlay where nothing is left to do.
 */
import t, { type Test } from 'tap';
import type { StatusReport } from '../../src/model/report.ts';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { underlay, underlayLink, withoutOffloads, type Family } from '../support/topology.ts';
import { transfer, type Transfer } from '../support/transfer.ts';
import { ping } from '../support/traffic.ts';
import { dropsOf, modeName, modes, twoHosts, type Mode, type TwoHosts } from '../support/two-hosts.ts';
import { roleOf, Weft } from '../support/weft.ts';
import { captureAllVxlan, isDamaged, withoutProbes } from '../support/wire-capture.ts';

t.setTimeout(600_000);

const SMALLEST_IPV6_MTU = 1280;
/** MTU of the underlay: the largest network fits, encapsulated over IPv6. */
const UNDERLAY_MTU = 9100;
const BYTES = 60_001;
const ETHERNET_BYTES = 14;
const mtus = [576, 1280, 1450, 1500, 8950];

const offloads = {
  'superframes with unfinished checksums': { segmenting: 'on', checksums: 'on' },
  'packets with unfinished checksums': { segmenting: 'off', checksums: 'on' },
  'packets with finished checksums': { segmenting: 'off', checksums: 'off' },
} as const;
type Offloads = (typeof offloads)[keyof typeof offloads];

/** A network of one MTU, with a container on each host. */
interface Cell {
  readonly mtu: number;
  readonly a: Namespace;
  readonly b: Namespace;
  /** Addresses of each, one for each family. */
  readonly ips: { readonly a: readonly string[]; readonly b: readonly string[] };
}

async function openCell(lab: Lab, { hosts, createNetwork }: TwoHosts, mtu: number, number: number): Promise<Cell> {
  const families = mtu < SMALLEST_IPV6_MTU ? ['ipv4'] : ['ipv4', 'ipv6'];
  const ip = (family: string, last: number | string): string =>
    family === 'ipv4' ? `10.60.${number}.${last}` : `fd60:${number}::${last}`;
  const subnets = families.map((family) => `--subnet ${family === 'ipv4' ? ip(family, '0/24') : ip(family, '/64')}`);
  await createNetwork(`mtu${mtu} ${subnets.join(' ')} --vni ${1000 + number} --mtu ${mtu}`);
  const [a, b] = await Promise.all(
    (['a', 'b'] as const).map(async (role, i) => {
      const weft = hosts[i]!;
      const namespace = await lab.namespace(`${role}${mtu}`);
      const ips = families.flatMap((family) => ['--ip', ip(family, 11 + i)]);
      await weft.attach(namespace, { network: `mtu${mtu}`, arguments: ips });
      return namespace;
    }),
  );
  const ips = (last: number): string[] => families.map((family) => ip(family, last));
  return { mtu, a: a!, b: b!, ips: { a: ips(11), b: ips(12) } };
}

async function setOffloads(at: Namespace, { segmenting, checksums }: Offloads): Promise<void> {
  const features = { tx: checksums, tso: segmenting, gso: segmenting, 'tx-udp-segmentation': segmenting };
  await at.run(['ethtool', '-K', 'eth0', ...Object.entries(features).flat()]);
  const now = await at.run(['ethtool', '-k', 'eth0']);
  for (const line of [`tx-checksumming: ${checksums}`, `tcp-segmentation-offload: ${segmenting}`]) {
    if (!now.includes(line)) throw new Error(`${at.name} has not ${line}:\n${now}`);
  }
}

/** TCP and UDP, as large as the MTU allows, in both directions at once. */
async function fill({ mtu, a, b, ips }: Cell): Promise<void> {
  const segmentBytes = (ip: string): number => mtu - (ip.includes(':') ? 48 : 28);
  const both: Transfer[] = [
    { kind: 'tcp', bytes: BYTES },
    { kind: 'udp', bytes: BYTES, segmentBytes },
  ];
  await Promise.all([transfer(a, b, ips.b, both), transfer(b, a, ips.a, both)]);
}

/** Have containers handed over superframes, and only where they should? The mean includes acknowledgements. */
function superframesCame(t: Test, was: StatusReport, is: StatusReport, { segmenting }: Offloads): void {
  for (const { name, rxBytes, rxFrames } of is.ports) {
    const mtu = Number(/^[ab](\d+)$/.exec(name)?.[1]);
    const before = was.ports.find((port) => port.name === name);
    if (Number.isNaN(mtu) || !before) continue;
    const mean = (rxBytes - before.rxBytes) / (rxFrames - before.rxFrames);
    const text = `${name}: ${mean.toFixed(0)} bytes a frame`;
    if (segmenting === 'off') t.ok(mean <= mtu + ETHERNET_BYTES, text);
    // With packets of nearly 9 KB, 60 KB are hardly fewer frames.
    else if (mtu <= 1500) t.ok(mean > mtu + ETHERNET_BYTES, text);
  }
  if (segmenting === 'on') t.ok(is.datapath.segments > was.datapath.segments, 'and they were cut');
}

async function everyCell(t: Test, mode: Mode, family: Family): Promise<void> {
  const lab = openLab(t);
  const under = await underlay(lab, family);
  await withoutOffloads(under);
  for (const host of [under.left, under.right]) await host.ip(`link set ${underlayLink} mtu ${UNDERLAY_MTU}`);
  const two = await twoHosts(lab, under, mode);
  const { left, right } = two;
  const cells: Cell[] = [];
  for (const [i, mtu] of mtus.entries()) cells.push(await openCell(lab, two, mtu, i + 1));
  for (const { a, ips } of cells) for (const ip of ips.b) await ping(a, ip);
  const drops = (): Promise<Record<string, number>[]> =>
    Promise.all(two.hosts.map(async (weft) => dropsOf(await weft.status(), mode)));
  const before = await drops();

  for (const [what, wanted] of Object.entries(offloads)) {
    await t.test(what, async (t) => {
      for (const { a, b } of cells) await Promise.all([a, b].map((at) => setOffloads(at, wanted)));
      const before = [await left.status(), await right.status()] as const;
      const captured = await captureAllVxlan(lab, under.left, underlayLink, async () => {
        for (const cell of cells) {
          await fill(cell);
          t.pass(`MTU ${cell.mtu}: ${[...cell.ips.a, ...cell.ips.b].join(', ')}`);
        }
      });
      const datagrams = withoutProbes(captured);
      for (const [i, weft] of [left, right].entries()) superframesCame(t, before[i]!, await weft.status(), wanted);
      t.ok(datagrams.length > cells.length * 20, `${datagrams.length} datagrams on the underlay`);
      t.same(datagrams.filter(isDamaged).slice(0, 3), [], 'checksums and lengths are right');
      const unchecked = datagrams.filter(({ outer, inner }) => !isChecked(outer) || !isChecked(inner));
      t.same(unchecked.slice(0, 3), [], 'and tcpdump has looked at each of them');
    });
  }
  t.same(await drops(), before, 'nothing is dropped');
}

/** Does tcpdump confirm the checksum of UDP, TCP or ICMPv6? Neighbor discovery and ARP do not count. */
function isChecked(text: string): boolean {
  return /\[udp sum ok\]|cksum 0x[0-9a-f]{4} \(correct\)|\[icmp6 sum ok\]|\bARP\b/.test(text);
}

t.test('IPv6 needs 1280 bytes', async (t) => {
  const lab = openLab(t);
  const under = await underlay(lab, 'ipv4');
  for (const [host, ip, peer] of [
    [under.left, under.leftIp, under.rightIp],
    [under.right, under.rightIp, under.leftIp],
  ] as const) {
    await host.ip(`link set ${underlayLink} mtu 1300`);
    const weft = await Weft.up(lab, host, roleOf(host), { datapath: 'native', underlay: ip, peers: [peer] });
    const create = (...more: readonly string[]) =>
      weft.attempt('network', 'create', 'n', '--subnet', 'fd60::/64', '--vni', '9', ...more);
    for (const [{ code, stderr }, why] of [
      [await create('--mtu', '576'), /576 is not accepted: with an IPv6 subnet an MTU is 1280 to 9000/],
      [await create('--mtu', '1279'), /1279 is not accepted: with an IPv6 subnet an MTU is 1280 to 9000/],
      [await create(), /the underlay leaves packets of 1250 bytes, and IPv6 needs 1280: raise its MTU by 30/],
    ] as const) {
      t.equal(code, 1);
      t.match(stderr, why);
    }
    t.same(await weft.json('network', 'ls'), []);
  }
});

for (const mode of modes) {
  for (const family of mode.store === 'etcd' ? (['ipv6'] as const) : (['ipv4', 'ipv6'] as const)) {
    void t.test(`${modeName(mode)} over ${family}`, (t) => everyCell(t, mode, family));
  }
}
