/** What can be chosen from the benchmark; and that it measures every figure that is to be reached. */
import t from 'tap';
import { catalogue, matches, quickened } from '../../bench/catalogue.ts';
import { targets } from '../../bench/figures.ts';
import { measurementNamed } from './results.ts';

const all = catalogue({ ovs: true });

function chosen(pattern: string): string[] {
  return all.filter((measurement) => matches(measurement, pattern)).map(({ name }) => name);
}

t.test('a pattern is a name, a topology or a load, whole', (t) => {
  t.same(chosen('one-host/tcp-1'), ['one-host/tcp-1']);
  t.ok(chosen('overlay').every((name) => name.startsWith('overlay/')));
  t.ok(chosen('tcp-1').length > 3 && chosen('tcp-1').every((name) => name.endsWith('/tcp-1')));
  t.same(chosen('tcp'), []);
  t.same(chosen('one-host/tcp-.'), [], 'a dot is a dot');
  t.end();
});

t.test('a star stands for anything', (t) => {
  t.same(chosen('one-host/tcp-*'), ['one-host/tcp-1', 'one-host/tcp-4']);
  t.same(
    chosen('*'),
    all.map(({ name }) => name),
  );
  t.ok(chosen('*wiregro/frames*').length === 3);
  t.end();
});

t.test('names are unique, and quick is some of them', (t) => {
  t.equal(new Set(all.map(({ name }) => name)).size, all.length);
  const quick = all.filter(({ quick }) => quick);
  t.ok(quick.length > 0 && quick.length < all.length);
  for (const measurement of quick) {
    const { systems } = quickened(measurement);
    t.ok(systems.includes('weft') && systems.includes('kernel'), `${measurement.name}: weft and the kernel`);
    t.ok(systems.length <= 3, `${measurement.name}: few`);
  }
  t.end();
});

t.test('Open vSwitch takes part only when asked for', (t) => {
  const systems = new Set(catalogue({}).flatMap(({ systems }) => systems));
  t.notOk([...systems].some((name) => name.startsWith('ovs')));
  const ofWeftAlone = new Set(['interop', 'routed', 'judged', 'judged-crr']);
  t.ok(all.every(({ load, systems }) => ofWeftAlone.has(load) || systems.some((name) => name.startsWith('ovs'))));
  t.end();
});

t.test('every figure to reach comes out of a measurement with both systems', (t) => {
  for (const { title, measurement, system, against, must, aim, better } of targets) {
    const { systems } = measurementNamed(measurement);
    t.ok(systems.includes(system), `${title}: ${system} in ${measurement}`);
    if (against !== null) t.ok(systems.includes(against), `${title}: ${against} in ${measurement}`);
    if (aim !== null) t.ok(better === 'higher' ? aim > must : aim < must, `${title}: the aim is beyond the floor`);
  }
  t.end();
});
