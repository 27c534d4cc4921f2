/**
 * What services promise while things change and fail, for longer than in `npm test`, and with its limits.
 *
 *     npm run test:mesh -- [--only rolling,kill,changes,many,crash,resets,power] [--datapath native] [--times 20]
 *                         [--backends 60] [--rate 200] [--seed 1]
 *
 *   rolling   all backends are replaced while clients connect, so many times a second: no request fails
 *   kill      daemons are killed and taken over, etcd goes away, and daemons are killed while a backend leaves, so many
 *             times: each connection keeps its backend, none to another backend is reset, none to one that left lives on,
 *             also if the daemon of its host did not run when it left
 *   changes   backends come, are drained, leave and go: only connections to those that go break
 *   many      the same with so many backends, and some fifteen connections to each
 *   crash     the program of a backend is killed: at most ten connections fail until it is ejected, at 100 a second
 *   resets    a backend leaves: both ends of its connections are reset, and UDP goes on with another one, within 100 ms
 *   power     a host with backends loses its power: new connections go elsewhere within a second
 *
 * In `rolling`, `kill`, `changes` and `many`, clients come from within, and from outside by a node port of each host.
 * `rolling`, `changes`, `many` and `crash` run on one host and on three, `kill` and `resets` on one and on two, `power` on three; several hosts share an etcd.
 */
import { parseArgs } from 'node:util';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { changesUnderLoad, crashUnderLoad, powerLoss } from '../support/mesh-changes.ts';
import { killsAndOutages } from '../support/mesh-kill.ts';
import { rollingReplacement } from '../support/mesh-rolling.ts';
import { serviceResets } from '../support/service-resets.ts';
import { datapathKinds } from '../support/weft.ts';

const parts = ['rolling', 'kill', 'changes', 'many', 'crash', 'resets', 'power'] as const;
/** Of a lost host: when the last connection that fails, or takes more than 300 ms, begins. */
const ELSEWHERE_WITHIN_MS = 1000;
const LOSSES = 3;
/** Of `many`: how many connections each backend has on average, and how long each pauses between two questions. */
const MANY = { each: 15, pauseMs: 300 };
/** Of a backend whose program is killed, and connections a second. */
const CRASH = { mostFailed: 10, rate: 100 };
/** From when a change has been applied until both ends know. */
const RESET_WITHIN_MS = 100;
const USAGE = `usage: npm run test:mesh -- [--only ${parts.join(',')}] [--datapath native|reference] [--times N]
                             [--backends N] [--rate N] [--seed N]
  --only      some of these, with commas between them (default: all)
  --datapath  one of the two (default: both)
  --times     how often all backends are replaced, or daemons killed (default: 20)
  --backends  how many there are in \`many\` (default: 60)
  --rate      new connections a second (default: 200)
  --seed      of the moments at which daemons are killed (default: another one each time)`;

const { values } = parseArgs({
  options: {
    help: { type: 'boolean', default: false },
    only: { type: 'string', default: parts.join(',') },
    datapath: { type: 'string' },
    times: { type: 'string', default: '20' },
    backends: { type: 'string', default: '60' },
    rate: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
  },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const only = values.only.split(',');
const numbers = [values.times, values.backends, values.rate, values.seed].map(Number);
const [times = NaN, backends = NaN, rate = NaN, seed = NaN] = numbers;
const datapaths = datapathKinds.filter((kind) => values.datapath === undefined || values.datapath === kind);
const areKnown = only.every((part) => parts.some((known) => known === part));
if (!areKnown || datapaths.length === 0 || !(times >= 1 && backends >= 3 && rate >= 1 && seed >= 0)) {
  console.error(USAGE);
  process.exit(2);
}
t.setTimeout(3_600_000);
t.comment(`seed ${seed}`);

for (const datapath of datapaths) {
  if (only.includes('rolling')) {
    for (const hosts of [1, 3] as const) {
      await t.test(`rolling, ${datapath}, hosts: ${hosts}`, (t) =>
        rollingReplacement(t, openLab(t), { datapath, hosts, backends: 3, rate, rounds: times }),
      );
    }
  }
  if (only.includes('kill')) {
    for (const hosts of [1, 2] as const) {
      await t.test(`kill, ${datapath}, hosts: ${hosts}`, (t) =>
        killsAndOutages(t, openLab(t), { datapath, hosts, connections: 25, removals: times, seed }),
      );
    }
  }
  if (only.includes('changes')) {
    for (const hosts of [1, 3] as const) {
      await t.test(`changes, ${datapath}, hosts: ${hosts}`, (t) =>
        changesUnderLoad(t, openLab(t), { datapath, hosts, connections: 100, rate, rounds: times }),
      );
    }
  }
  if (only.includes('many')) {
    const [connections, { pauseMs }] = [backends * MANY.each, MANY];
    for (const hosts of [1, 3] as const) {
      await t.test(`many, ${datapath}, hosts: ${hosts}`, (t) =>
        changesUnderLoad(t, openLab(t), { datapath, hosts, backends, connections, pauseMs, rate, rounds: times }),
      );
    }
  }
  if (only.includes('crash')) {
    for (const hosts of [1, 3] as const) {
      await t.test(`crash, ${datapath}, hosts: ${hosts}`, async (t) => {
        const failed = await crashUnderLoad(t, openLab(t), { datapath, hosts, rate: CRASH.rate });
        t.ok(failed <= CRASH.mostFailed, `${failed} failed`);
      });
    }
  }
  if (only.includes('resets')) {
    for (const hosts of [1, 2] as const) {
      await t.test(`resets, ${datapath}, hosts: ${hosts}`, async (t) => {
        const all = await serviceResets(t, openLab(t), { datapath, hosts });
        for (const { what, ms } of all) t.ok(ms <= RESET_WITHIN_MS, `${what}: ${ms.toFixed(0)} ms`);
      });
    }
  }
  if (only.includes('power')) {
    for (let time = 1; time <= LOSSES; time++) {
      await t.test(`power, ${datapath}, ${time}`, async (t) => {
        const lastMs = await powerLoss(t, openLab(t), { datapath, connections: 100, rate });
        t.ok(lastMs <= ELSEWHERE_WITHIN_MS, `${lastMs.toFixed(0)} ms`);
      });
    }
  }
}
