/**
 * etcd is down for minutes, and nobody notices but those who change something.
 *
 *     node --import=tsx test/long/store-away.ts [--seconds 600] [--datapath native]
 */
import { parseArgs } from 'node:util';
import t from 'tap';
import { storeOutage } from '../support/store-outage.ts';
import { datapathKinds } from '../support/weft.ts';

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '600' }, datapath: { type: 'string', default: 'native' } },
});
const seconds = Number(values.seconds);
const datapath = datapathKinds.find((kind) => kind === values.datapath);
if (!(seconds >= 1) || !datapath) {
  console.error('usage: node --import=tsx test/long/store-away.ts [--seconds N] [--datapath native|reference]');
  process.exit(2);
}
t.setTimeout((seconds + 120) * 1000);
await t.test(`etcd is down for ${seconds} seconds, ${datapath}`, (t) => storeOutage(t, { seconds, datapath }));
