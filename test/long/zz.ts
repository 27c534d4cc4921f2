/**
 * kill -9 under a running iperf3 stream, then `weft up`: many times in a row.
 *
 *     node --import=tsx test/long/kill.ts [--times 20] [--datapath native]
 *
 * Fails unless each time the same TCP connection carries data again within
 * 1.6 s of the kill, a 10 ms UDP probe passes within 700 ms of the restart
 * command, and no interface is lost or doubled.
 */
import { parseArgs } from 'node:util';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { killAndRestart } from '../support/zz-restart.ts';
import { oneHost } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';

const DATA_LIMIT_MS = 1600;
const PROBE_LIMIT_MS = 700;

const { values } = parseArgs({ options: { times: { type: 'string', default: '20' }, datapath: { type: 'string' } } });
const times = Number(values.times);
t.setTimeout(60_000 + times * 30_000);

for (const datapath of datapathKinds.filter((kind) => values.datapath === undefined || values.datapath === kind)) {
  await t.test(`${datapath}: ${times} times`, async (t) => {
    const { weft, web, db } = await oneHost(openLab(t), datapath);
    await ping(web.namespace, db.ip4);
    for (let time = 1; time <= times; time++) {
      const { dataAgainMs, probeAgainMs } = await killAndRestart(weft, web, db);
      const figures = `data after ${dataAgainMs.toFixed(0)} ms, probe after ${probeAgainMs.toFixed(0)} ms`;
      t.ok(dataAgainMs <= DATA_LIMIT_MS && probeAgainMs <= PROBE_LIMIT_MS, `${time}: ${figures}`);
    }
  });
}
