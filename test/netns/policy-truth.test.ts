/**
 * Truth tables in real namespaces, on two hosts that share an etcd: some of the policies that were written by hand, each of them
 * with every pair of nine workloads, TCP and UDP, two ports, IPv4 and IPv6, by address and through services, also those with several
 * backends; one of the three namespaces is `default`. All of them, with `npm run test:policy -- --only tables`. `support/policy/real.ts`
 * has the drawing.
 */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { caseNamespaceNames, caseWorld } from '../support/policy/cases.ts';
import { RealCluster } from '../support/policy/real.ts';
import { Random } from '../support/random.ts';
import { needsRoot } from '../support/root.ts';

t.setTimeout(600_000);

const SAMPLE = Number(process.env.COUNT ?? 6);
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);

await t.test(`${SAMPLE} of the policies that were written by hand (seed ${seed})`, { skip: needsRoot }, async (t) => {
  const random = new Random(seed);
  const asDefault = random.pick(caseNamespaceNames);
  t.comment(`${asDefault} is the namespace default`);
  const { cases, ...places } = caseWorld(asDefault);
  const all = [...cases];
  const real = await RealCluster.open(openLab(t), 'native', places);
  const tally = { cells: 0, allowed: 0, shared: 0, balanced: 0 };
  // Each once: one that follows itself would be deleted as the one before.
  for (let n = 0; n < SAMPLE; n++) {
    const [one] = all.splice(random.int(all.length), 1);
    await real.holds(t, one!, tally);
  }
  t.comment(JSON.stringify(tally));
  t.ok(tally.balanced > 0, 'the datapath has opened connections to one of several by itself');
});
