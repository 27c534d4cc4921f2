/**
 * A small sample of what `npm run test:load -- --only cluster/watched` measures: a daemon among hosts that are played on a real
 * etcd. How long things take decides nothing here.
 */
import t from 'tap';
import { watched } from '../load/cluster/watched.ts';
import type { Sizes } from '../load/scenario.ts';

const sizes: Sizes = {
  realHosts: 1,
  realEndpoints: 1,
  simulatedHosts: 1,
  simulatedEndpoints: 1,
  watched: [100],
  endpointsPerHost: 20,
  churn: 10,
  window: 2,
  relisted: 1,
};

t.test('a daemon follows hosts that come, and endpoints that come and go', async (t) => {
  const values = new Map<string, number>();
  const reached: string[] = [];
  await watched[0]!.run(
    {
      figure: (text) => t.comment(text),
      value: (name, value, unit, at) => {
        t.equal(at, 100);
        t.comment(`${name}: ${value} ${unit}`);
        values.set(name, value);
      },
      must: (_, text) => reached.push(text),
    },
    { seconds: 1, sizes },
  );
  t.match(reached, [/^20 of 20 new endpoints among 100 /]);
  t.ok(values.get('received from etcd under churn')! > values.get('received from etcd at rest')!);
  for (const name of ['start without a copy', 'resident memory', 'event loop late while listing, worst']) {
    t.ok(values.get(name)! > 0, name);
  }
});
