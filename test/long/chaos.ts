/**
 *            ┌ wire ─────────── br0 ─────────────────────┐
 *            │     │        │        │        │        │ │
 *          host a  host b  host c  etcd m0  etcd m1  etcd m2
 *
 * Several hosts with one network state on etcd, while everything that can fail does: members of etcd and daemons are
 * killed, hosts are cut off from etcd and from each other, also in one direction only, etcd forgets its history, is put
 * back to an old snapshot, or begins with nothing. Containers come and go meanwhile, and all of them send numbered
 * datagrams to each other.
 *
 *     npm run test:chaos -- --seconds 60 --seed 1 [--hosts 3] [--members 3] [--datapath native] [--only store,etcd]
 *
 * After everything is healed, all hosts must agree within five seconds. No address is given twice, no datagram comes
 * twice or to somebody else, and pairs of containers between whose hosts nothing was wrong have lost none. The same seed
 * makes the same disturbances in the same order. With `--only`, nothing else goes wrong than members of etcd (`etcd`), what
 * etcd has (`store`), daemons (`daemon`) or the network (`network`).
 */
import { parseArgs } from 'node:util';
import t from 'tap';
import { chaos, troubles } from '../support/chaos.ts';
import { datapathKinds } from '../support/weft.ts';

const AGREE_WITHIN_MS = 5000;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
    hosts: { type: 'string', default: '3' },
    members: { type: 'string', default: '3' },
    datapath: { type: 'string', default: 'native' },
    only: { type: 'string', default: troubles.join(',') },
  },
});
const [seconds = NaN, seed = NaN, hosts = NaN, members = NaN] = [
  values.seconds,
  values.seed,
  values.hosts,
  values.members,
].map(Number);
const datapath = datapathKinds.find((kind) => kind === values.datapath);
const words = values.only.split(',');
const only = troubles.filter((trouble) => words.includes(trouble));
if (
  !(seconds >= 5 && hosts >= 2 && hosts <= 5 && (members === 1 || members === 3) && seed >= 0) ||
  !datapath ||
  only.length < words.length
) {
  console.error(
    'usage: npm run test:chaos -- [--seconds N, 5 or more] [--seed N] [--hosts 2…5] [--members 1|3] [--datapath native|reference] [--only etcd,store,daemon,network]',
  );
  process.exit(2);
}
t.setTimeout((seconds + 300) * 1000);
await t.test(`seed ${seed}, ${seconds} s`, (t) =>
  chaos(t, { seconds, seed, hosts, members, datapath, only, agreeWithinMs: AGREE_WITHIN_MS }),
);
