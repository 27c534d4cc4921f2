/**
 *   ┌ host ──────────────────────────────┐
 *   │ web (forges) ─ weft ─ db (listens) │
 *   └────────────────────────────────────┘
 *
 * A container may use its own addresses only: each kind of forgery gets nothing through and has
 * its own drop reason; from a trusted port it passes.
 */
import t from 'tap';
import { forgeries } from '../support/forgeries.ts';
import { udp } from '../support/frames.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { oneHost, overlay } from '../support/topology.ts';
import { ping, sendFrames, Sniffer } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const { weft, web, db } = await oneHost(lab, datapath);
    await ping(web.namespace, db.ip4);
    const sniffer = await Sniffer.open(db.namespace);
    let count = 0;
    /**
     * An honest frame, unlike all before it: when it arrives, everything that was sent before it would have arrived,
     * too.
     */
    const marker = (): Uint8Array => {
      const ends = { srcMac: web.mac, dstMac: db.mac, src: web.ip4, dst: db.ip4 };
      return udp(ends, 4000, 4001, Buffer.from(`marker ${++count}`));
    };

    for (const { what, reason, frame } of forgeries(web, db)) {
      await t.test(`a forged ${what} is dropped as ${reason}`, async (t) => {
        const before = await weft.drops('web');
        const honest = marker();
        // Each one alone: two in a burst may become one superframe, and one drop.
        await sendFrames(web.namespace, [frame]);
        await sendFrames(web.namespace, [frame, honest]);
        await sniffer.sees(honest, 'the honest frame that was sent after it');
        const after = await weft.drops('web');
        t.same(after, { ...before, [reason]: (before[reason] ?? 0) + 2 }, 'counted under its own reason, and no other');
        t.notOk(sniffer.hasSeen(frame), 'nothing got through');
      });
    }

    await t.test('--trust lifts it', async (t) => {
      await weft.run('detach', 'web');
      await weft.attach(web.namespace, {
        network: overlay.network,
        arguments: ['--ip', web.ip4, '--ip', web.ip6, '--mac', web.mac, '--trust'],
      });
      await ping(web.namespace, db.ip4);
      for (const { what, reason, frame, isLifted } of forgeries(web, db)) {
        const dropped = async (): Promise<number> => (await weft.drops('web'))[reason] ?? 0;
        const before = await dropped();
        await sendFrames(web.namespace, [frame]);
        if (isLifted) await sniffer.sees(frame, `${what}, which passes`);
        else await until(async () => (await dropped()) > before, { what: `${what} is dropped` });
        t.equal(sniffer.hasSeen(frame), isLifted, isLifted ? `${what} passes` : `${what} passes from no port`);
      }
    });
    await sniffer.close();
  });
}
