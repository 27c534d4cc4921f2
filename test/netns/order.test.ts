/**
 *   ┌ host ──────────────────────────────┐
 *   │ web ── 150 new flows ── weft ── db │
 *   └────────────────────────────────────┘
 *
 * The first frames of a flow wait for its decision and stay in order, and frames for which
 * there is no room are counted.
 */
import t from 'tap';
import { PARKED_PER_FLOW } from '../../src/flow/bounds.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { oneHost } from '../support/topology.ts';
import { python } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';
import { udp } from '../support/frames.ts';
import { needsRoot } from '../support/root.ts';

/** Each has a cached flow of its own: among the ports below 256 DHCP's tell all others apart. */
const FLOWS = 150;
const FRAMES = 100;
const UDP_CHECKSUM = 14 + 20 + 6;

t.setTimeout(600_000);

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const { weft, web, db } = await oneHost(lab, datapath);
    const template = udp({ srcMac: web.mac, dstMac: db.mac, src: web.ip4, dst: db.ip4 }, 999, 1000, new Uint8Array(4));
    template.fill(0, UDP_CHECKSUM, UDP_CHECKSUM + 2);

    const counted = async () => {
      const { ports, datapath: sum } = await weft.status();
      const from = ports.find(({ name }) => name === 'web')!;
      return { rx: from.rxFrames, drops: from.drops, held: sum.held, upcalls: sum.upcalls };
    };
    const before = await counted();

    // Frames that the kernel cannot queue never reach the switch.
    await web.namespace.ip(`link set eth0 txqueuelen ${2 * FLOWS * FRAMES}`);
    const sink = db.namespace.start(python('order_sink.py', 'eth0'));
    await sink.says('ready');
    await web.namespace.run(python('order_send.py', 'eth0', Buffer.from(template).toString('hex'), FLOWS, FRAMES));
    let rx = -1;
    const after = await until(
      async () => {
        const now = await counted();
        const isQuiet = now.held === 0 && now.rx === rx && now.rx >= before.rx + FLOWS * FRAMES;
        rx = now.rx;
        return isQuiet ? now : undefined;
      },
      { what: 'all frames are through' },
    );
    sink.end();
    await sink.says('misordered');
    const [, received, misordered] = /received (\d+) misordered (\d+)/.exec(sink.stdout)!.map(Number);

    const came = after.rx - before.rx;
    const drops = Object.entries(after.drops).filter(([reason, frames]) => frames !== (before.drops[reason] ?? 0));
    const dropped = drops.reduce((sum, [reason, frames]) => sum + frames - (before.drops[reason] ?? 0), 0);
    t.comment(`${came} of ${FLOWS * FRAMES} came to the switch, ${received} arrived, ${dropped} were dropped`);
    t.ok(came >= FLOWS * FRAMES, 'every frame came to the switch');
    t.ok(after.upcalls - before.upcalls >= FLOWS, `${after.upcalls - before.upcalls} flows were decided`);
    t.ok(received! >= FLOWS * PARKED_PER_FLOW, 'of each flow at least those that may wait arrive');
    t.equal(misordered, 0, 'no frame overtakes another of its flow');
    const others = came - received! - dropped;
    t.ok(others >= 0 && others < 20, `each arrived or was counted, but for ${others} of neighbor discovery`);
    t.strictSame(
      drops.map(([reason]) => reason),
      ['upcall_parked_full'],
      'no other reason',
    );
  });
}
