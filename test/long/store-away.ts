/**
 * etcd is down for minutes, and nobody notices but those who change something.
 *
 *     node --import=tsx test/long/store-away.ts [--seconds 600]
 */
import { parseArgs } from 'node:util';
import t from 'tap';
import { storeOutage } from '../support/store-outage.ts';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '600' } } });
const seconds = Number(values.seconds);
t.setTimeout((seconds + 120) * 1000);
await t.test(`etcd is down for ${seconds} seconds`, (t) => storeOutage(t, { seconds }));
