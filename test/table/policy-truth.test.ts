/**
 * Truth tables of random policies, by frames through two simulated hosts, on both datapaths, against the oracle: a few here, and
 * 5,000 with `npm run test:policy -- --only simulation`.
 */
import t from 'tap';
import { Random } from '../support/random.ts';
import { simulatedDatapaths, simulateTruth } from '../support/policy/simulated.ts';

const POLICIES = Number(process.env.COUNT ?? 40);
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);

t.setTimeout(600_000);

for (const [name, open] of Object.entries(simulatedDatapaths)) {
  t.test(`${name}: ${POLICIES} policies, each pair by TCP and UDP, IPv4 and IPv6 (seed ${seed})`, (t) => {
    const { wrong, ...tally } = simulateTruth(open, new Random(seed), POLICIES, 0.25);
    for (const { what, world } of wrong.slice(0, 3)) t.fail(what, { world: JSON.stringify(world) });
    t.equal(wrong.length, 0, 'no cell is wrong');
    t.comment(JSON.stringify(tally));
    t.ok(tally.allowed > 0 && tally.allowed < tally.cells && tally.held > tally.cut);
    t.ok(tally.byDatapath > 0 && tally.byDatapath < tally.shared, 'the datapath opens some by itself');
    t.ok(tally.leftOut < tally.floods, 'floods reach those who may get them');
    t.end();
  });
}
