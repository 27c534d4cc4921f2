/**
 *   web ── weft ── db        an iperf3 stream
 *
 * The frames of an established flow never reach JavaScript.
 */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { upcallsDuringStream } from '../support/established.ts';
import { oneHost } from '../support/topology.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

const STREAM_SECONDS = 3;

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const { weft, web, db } = await oneHost(openLab(t), datapath);
    const seen = await upcallsDuringStream(weft, web, db, STREAM_SECONDS);
    t.equal(seen.upcalls, 0, `upcalls while ${seen.frames} frames passed`);
  });
}
