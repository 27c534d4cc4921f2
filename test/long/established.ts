/**
 * Counts upcalls during a stream of ten seconds.
 *
 *     node --import=tsx test/long/established.ts [--seconds 10]
 */
import { parseArgs } from 'node:util';
import t from 'tap';
import { upcallsDuring } from '../support/established.ts';
import { openLab } from '../support/lab.ts';
import { oneHost } from '../support/topology.ts';
import { datapathKinds } from '../support/weft.ts';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '10' } } });
const seconds = Number(values.seconds);
t.setTimeout(120_000 + 2 * seconds * 1000);

for (const datapath of datapathKinds) {
  await t.test(`${datapath}: ${seconds} s`, async (t) => {
    const { weft, web, db } = await oneHost(openLab(t), datapath);
    const stream = { from: web.namespace, to: db.namespace, ip: db.ip4 };
    const [seen] = await upcallsDuring(weft, [stream], seconds);
    t.equal(seen!.upcalls, 0, `upcalls during ${seen!.frames} frames`);
  });
}
