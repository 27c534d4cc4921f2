/**
 *   ┌ host ────────────────────────────┐
 *   │ web ── 1,000 new flows ── weft ── db │
 *   └──────────────────────────────────┘
 *
 * The first frames of a flow wait for its decision and stay in order, and those
 * that cannot wait are counted.
 */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { oneHost } from '../support/topology.ts';
import { python } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';
import { udp } from '../support/frames.ts';
import { needsRoot } from '../support/root.ts';

const FLOWS = 1000;
const FRAMES = 20;
const UDP_CHECKSUM = 14 + 20 + 6;

t.setTimeout(120_000);

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const { weft, web, db } = await oneHost(lab, datapath);
    const template = udp({ srcMac: web.mac, dstMac: db.mac, src: web.ip4, dst: db.ip4 }, 999, 1000, new Uint8Array(4));
    template.fill(0, UDP_CHECKSUM, UDP_CHECKSUM + 2);

    const sink = db.namespace.start(python('order_sink.py', 'eth0'));
    await sink.says('ready');
    await web.namespace.run(python('order_send.py', 'eth0', Buffer.from(template).toString('hex'), FLOWS, FRAMES));
    const counted = async () => {
      const { ports, datapath: sum } = await weft.status();
      const from = ports.find(({ name }) => name === 'web')!;
      const dropped = Object.values(from.drops).reduce((total, frames) => total + frames, 0);
      return { from, dropped, held: sum.held, upcalls: sum.upcalls };
    };
    let before = -1;
    const { from, dropped, upcalls } = await until(
      async () => {
        const now = await counted();
        const isQuiet = now.held === 0 && now.from.rxFrames === before;
        before = now.from.rxFrames;
        return isQuiet ? now : undefined;
      },
      { timeoutMs: 20_000, what: 'all frames are through' },
    );
    sink.end();
    await sink.says('misordered');
    const [, received, misordered] = /received (\d+) misordered (\d+)/.exec(sink.stdout)!.map(Number);

    t.comment(`${from.rxFrames} of ${FLOWS * FRAMES} came to the switch, ${received} arrived, ${dropped} were dropped`);
    t.ok(upcalls >= FLOWS / 2, `${upcalls} flows were decided`);
    t.equal(misordered, 0, 'no frame overtakes another of its flow');
    t.ok(received! + dropped >= from.rxFrames - 10, 'each frame that came arrived or was counted');
    t.strictSame(
      Object.keys(from.drops).filter((reason) => !['upcall_parked_full', 'upcall_queue_full'].includes(reason)),
      [],
      'no other reason',
    );
  });
}
