/**
 *   ┌ left ──────────────┐   MTU 1500 or 9000   ┌ right ─────┐
 *   │ web ─┐             │                      │            │
 *   │      ├─ weft ──────┼───────underlay───────┼─ weft ─ db │
 *   │ app ─┘             │                      │            │
 *   └────────────────────┘                      └────────────┘
 *
 * Datagrams of 64 KB, which the containers' kernels fragment, arrive whole, even as the first
 * of their flow, and with their fragments in any order. Fragments whose first one never comes
 * do not wait forever.
 */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { FRAGMENT_TIMEOUT_MS } from '../../src/flow/bounds.ts';
import { buildUdp } from '../../src/wire/l4.ts';
import * as frames from '../support/frames.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { fragmentOf, partsOf } from '../support/random-fragments.ts';
import {
  attachContainer,
  overlay,
  underlay,
  underlayLink,
  withoutOffloads,
  type Container,
} from '../support/topology.ts';
import { ping, python, sendFrames } from '../support/traffic.ts';
import { modeName, twoHosts, type Mode } from '../support/two-hosts.ts';

t.setTimeout(600_000);
// Half of the time it waits for a timeout.
t.jobs = 3;

const PORT = 7054;
/** A port of no flow that the kernel has. */
const RAW_PORT = 9;
/** The largest over IPv4: 65,535 minus the headers. */
const LARGEST_BYTES = 65_507;
const COUNT = 5;

type Family = 'ip4' | 'ip6';

/** The first fragment last, or the last first. */
const orders: readonly ((list: readonly Uint8Array[]) => Uint8Array[])[] = [
  (list) => list.toReversed(),
  (list) => [list.at(-1)!, ...list.slice(0, -1)],
  (list) => [...list.slice(1), list[0]!],
];

/** Identification of the last datagram that was made. */
let lastId = 100;

interface Variant extends Mode {
  readonly mtu: number;
  readonly threads: number;
}

const variants: readonly Variant[] = [
  { datapath: 'native', store: 'static peers', mtu: 1500, threads: 1 },
  { datapath: 'native', store: 'etcd', mtu: 1500, threads: 3 },
  { datapath: 'native', store: 'static peers', mtu: 9000, threads: 1 },
  { datapath: 'reference', store: 'static peers', mtu: 1500, threads: 1 },
  { datapath: 'reference', store: 'etcd', mtu: 9000, threads: 1 },
];

for (const { mtu, threads, ...mode } of variants) {
  void t.test(`${modeName(mode)}, MTU ${mtu}, threads: ${threads}`, async (t) => {
    const lab = openLab(t);
    const under = await underlay(lab, 'ipv4');
    for (const host of [under.left, under.right]) await host.ip(`link set ${underlayLink} mtu ${mtu}`);
    await withoutOffloads(under);
    const file = join(lab.directory, 'weft.yaml');
    writeFileSync(file, `threads: ${threads}\n`);
    const { left, hosts, createNetwork } = await twoHosts(lab, under, mode, { arguments: ['--config', file] });
    t.equal((await createNetwork(overlay.create)).mtu, mtu - 50);
    for (const weft of hosts) t.equal((await weft.client.networks())[0]!.mtu, mtu - 50);
    const web = await attachContainer(lab, left, 'web', 11);
    const app = await attachContainer(lab, left, 'app', 12);
    const db = await attachContainer(lab, hosts[1], 'db', 21);

    for (const [where, to] of [
      ['on one host', app],
      ['to another host', db],
    ] as const) {
      const server = to.namespace.start(python('udp_digest.py', PORT));
      await server.says('ready');

      await t.test(`the largest datagrams arrive whole ${where}`, async () => {
        for (const ip of [to.ip4, to.ip6]) {
          await ping(web.namespace, ip);
          await web.namespace.run(python('udp_large.py', ip, PORT, COUNT, LARGEST_BYTES));
        }
      });

      await t.test(`so do fragments in another order ${where}`, async () => {
        for (const family of ['ip4', 'ip6'] as const) {
          for (const order of orders) {
            const { digest, fragments } = datagram(web, to, family);
            await sendFrames(web.namespace, order(fragments));
            await server.says(digest);
          }
        }
      });
      await server.stop();
    }

    // Waiting takes the same time for every MTU.
    if (mtu > 1500) return;
    await t.test('overlapping ones arrive nowhere, and nothing waits forever', async (t) => {
      const [first, second] = datagram(web, db, 'ip4').fragments as [Uint8Array, Uint8Array];
      const within = fragmentOf(
        endsOf(web, db, 'ip4'),
        { at: 1288, bytes: 8, more: true },
        { id: lastId, protocol: 17, payload: new Uint8Array() },
      );
      await sendFrames(web.namespace, [second, within, first]);
      const waiting = datagram(web, db, 'ip4').fragments.slice(1);
      await sendFrames(web.namespace, waiting);
      await until(async () => (await left.drops('web'))['fragment_overlap'] === 3, {
        what: 'the datagram is dropped',
      });
      await until(async () => (await left.drops('web'))['fragment_timeout'] === waiting.length, {
        timeoutMs: FRAGMENT_TIMEOUT_MS + 5000,
        what: 'what waits is dropped',
      });
      for (const weft of hosts) t.equal((await weft.status()).datapath.held, 0);
    });
  });
}

/** A UDP datagram unlike all before it, in fragments, and the digest of its data. */
function datagram(from: Container, to: Container, family: Family): { digest: string; fragments: Uint8Array[] } {
  const payload = new Uint8Array(8000).fill(++lastId);
  const ends = endsOf(from, to, family);
  const ports = { sourcePort: RAW_PORT, destinationPort: PORT };
  const segment = buildUdp(frames.wireIp(ends.src), frames.wireIp(ends.dst), { ...ports, payload });
  return {
    digest: createHash('sha256').update(payload).digest('hex'),
    fragments: partsOf(segment.length, 1280).map((part) =>
      fragmentOf(ends, part, { id: lastId, protocol: 17, payload: segment }),
    ),
  };
}

function endsOf(from: Container, to: Container, family: Family) {
  return { srcMac: from.mac, dstMac: to.mac, src: from[family], dst: to[family] };
}
