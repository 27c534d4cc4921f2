/**
 * Network policy is held against its specification, and to what it promises while everything changes.
 *
 *     npm run test:policy -- [--only tables,simulation,never-open,changes] [--datapath native] [--seed 1]
 *                           [--case TEXT] [--policies 5000] [--rate 10000] [--times 1] [--connections 200]
 *
 *   tables      truth tables of all policies that were written by hand (`support/policy/cases`), and of the documentation's
 *               examples, in real namespaces on two hosts with etcd: no cell is wrong, no connection to one of several backends. Once
 *               more with the namespace that most are about as `default`
 *   simulation  truth tables of so many random policies, on simulated hosts: no cell is wrong, no connection through services with
 *               several backends, also where the datapath opens it by itself, and nothing that is flooded
 *   never-open  nothing that is denied gets through at so many packets a second, while daemons are killed, restarted and taken
 *               over, policies replaced, labels changed, endpoints removed, and etcd goes away, so many times
 *   changes     so many connections exchange data while policies change 100 times: none is disturbed; one that is forbidden ends
 *               within a second
 */
import { parseArgs } from 'node:util';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { caseWorld } from '../support/policy/cases.ts';
import { changeUnderLoad } from '../support/policy/change-under-load.ts';
import { neverOpen } from '../support/policy/never-open.ts';
import { RealCluster } from '../support/policy/real.ts';
import { simulatedDatapaths, simulateTruth } from '../support/policy/simulated.ts';
import { Random } from '../support/random.ts';
import { datapathKinds } from '../support/weft.ts';

const parts = ['tables', 'simulation', 'never-open', 'changes'] as const;
const CHANGES = 100;
/** From when a policy has been applied until a connection that it forbids has ended. */
const ENDS_WITHIN_MS = 1000;
/** The share of the cells through services that is asked of each set of random policies. */
const SERVICE_SHARE = 0.25;
const USAGE = `usage: npm run test:policy -- [--only ${parts.join(',')}] [--datapath native|reference] [--seed N]
                              [--case TEXT] [--policies N] [--rate N] [--times N] [--connections N]
  --only         some of these, with commas between them (default: all)
  --datapath     one of the two (default: both; \`tables\`: native)
  --seed         of the random policies (default: another one each time)
  --case         of \`tables\`: those that have this in their names
  --policies     how many random ones (default: 5000)
  --rate         denied datagrams a second (default: 10000)
  --times        how often each thing happens in \`never-open\` (default: 1)
  --connections  in \`changes\` (default: 200)`;

const { values } = parseArgs({
  options: {
    help: { type: 'boolean', default: false },
    only: { type: 'string', default: parts.join(',') },
    datapath: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
    case: { type: 'string', default: '' },
    policies: { type: 'string', default: '5000' },
    rate: { type: 'string', default: '10000' },
    times: { type: 'string', default: '1' },
    connections: { type: 'string', default: '200' },
  },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const only = values.only.split(',');
const numbers = [values.seed, values.policies, values.rate, values.times, values.connections].map(Number);
const [seed = NaN, policies = NaN, rate = NaN, times = NaN, connections = NaN] = numbers;
const datapaths = datapathKinds.filter((kind) => values.datapath === undefined || values.datapath === kind);
const areKnown = only.every((part) => parts.some((known) => known === part));
const areNumbers = seed >= 0 && [policies, rate, times, connections].every((number) => number >= 1);
if (!areKnown || datapaths.length === 0 || !areNumbers) {
  console.error(USAGE);
  process.exit(2);
}
t.setTimeout(0);
t.comment(`seed ${seed}`);

if (only.includes('tables')) {
  for (const datapath of values.datapath === undefined ? (['native'] as const) : datapaths) {
    for (const asDefault of [undefined, 'shop']) {
      await t.test(`tables, ${datapath}${asDefault ? `, ${asDefault} is called default` : ''}`, async (t) => {
        t.setTimeout(0);
        const { cases: all, ...places } = caseWorld(asDefault);
        const real = await RealCluster.open(openLab(t), datapath, places);
        const cases = all.filter(({ what }) => what.includes(values.case));
        const tally = { cells: 0, allowed: 0, shared: 0, balanced: 0 };
        for (const one of cases) await real.holds(t, one, tally);
        const count = cases.reduce((sum, one) => sum + one.policies.length, 0);
        t.comment(`${count} policies in ${cases.length} sets: ${JSON.stringify(tally)}`);
      });
    }
  }
}
if (only.includes('simulation')) {
  for (const datapath of datapaths) {
    await t.test(`simulation, ${datapath}`, (t) => {
      const random = new Random(seed);
      const { wrong, ...tally } = simulateTruth(simulatedDatapaths[datapath]!, random, policies, SERVICE_SHARE);
      for (const { what, world } of wrong) t.fail(what, { world: JSON.stringify(world) });
      t.equal(wrong.length, 0, 'no cell is wrong');
      t.comment(JSON.stringify(tally));
      t.end();
    });
  }
}
if (only.includes('never-open')) {
  for (const datapath of datapaths) {
    await t.test(`never open, ${datapath}`, (t) => {
      t.setTimeout(0);
      return neverOpen(t, openLab(t), { datapath, rate, times, after: 2 * rate });
    });
  }
}
if (only.includes('changes')) {
  for (const datapath of datapaths) {
    await t.test(`changes, ${datapath}`, async (t) => {
      t.setTimeout(0);
      const tookMs = await changeUnderLoad(t, openLab(t), { datapath, connections, changes: CHANGES });
      t.ok(tookMs <= ENDS_WITHIN_MS, `what is forbidden has ended after ${tookMs.toFixed(0)} ms`);
    });
  }
}
