/** The micro-benchmarks of the slow path do what their rows say, at a small size. Each throws if it does not. */
import t from 'tap';
import { decideAtCap, decideFlows, openConnections, revalidate } from '../../bench/slow-path.ts';

await t.test('new flows are decided, in an empty cache and in a full one', async (t) => {
  t.match(decideFlows(512), { flows: 512 });
  t.match(decideAtCap(256, 512), { flows: 512 });
});

await t.test('connections to the outside are opened', async (t) => {
  t.match(openConnections(512), { flows: 512 });
});

await t.test('cached flows are decided again', async (t) => {
  const [moves, ...others] = await revalidate(1024, 64);
  t.equal(moves?.flows, 64);
  t.equal(others.length, 3);
  t.ok(others.every(({ flows }) => flows >= 1024));
});
