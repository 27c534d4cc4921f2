/** Which figures a run reached, and when that is undecided. */
import t from 'tap';
import { figuresOf } from '../../bench/figures.ts';
import { measured, type Values } from './results.ts';

const five = (value: number): number[] => Array.from({ length: 5 }, () => value);

function one(name: string, values: Values, details: Record<string, number> = {}): [string, string | null] {
  const [figure, ...more] = figuresOf([measured(name, values, details)]);
  if (figure === undefined || more.length > 0) throw new Error(`${name} has ${more.length + 1} figures`);
  return [figure.reached, figure.note];
}

t.test('more is better: the median of the ratios is held against floor and aim', (t) => {
  const against = (weft: number[]): [string, string | null] => one('one-host/frames-1', { weft, kernel: five(100) });
  t.same(against(five(99)), ['no', null]);
  t.same(against(five(100)), ['must', null], 'the floor itself is enough');
  t.same(against(five(120)), ['aim', null]);
  t.same(against([1, 1, 110, 500, 500]), ['must', null]);
  t.end();
});

t.test('less is better', (t) => {
  const against = (weft: number): [string, string | null] => one('overlay/cpu', { weft: five(weft), ovs: five(10) });
  t.same(against(2.1), ['no', null]);
  t.same(against(2), ['must', null]);
  t.same(against(1), ['aim', null]);
  t.end();
});

t.test('a figure without a peer is held against the bound itself', (t) => {
  const of = (weft: number): [string, string | null] => one('overlay/loss-100k', { weft: five(weft) });
  t.same(of(0.2), ['no', null]);
  t.same(of(0.1), ['must', null]);
  t.same(of(0), ['aim', null]);
  t.end();
});

t.test('a figure with a floor only has no aim to reach', (t) => {
  const values = { kernel: five(10), 'weft-to-kernel': five(100), 'kernel-to-weft': five(1) };
  t.same(
    figuresOf([measured('overlay/interop', values)]).map(({ system, reached }) => [system, reached]),
    [
      ['weft-to-kernel', 'must'],
      ['kernel-to-weft', 'no'],
    ],
  );
  t.end();
});

t.test('what was measured badly decides nothing', (t) => {
  t.same(one('one-host/frames-1', { weft: [1, 1, 1], kernel: [1, 1, 1] }), ['undecided', '3 of at least 5 rounds']);
  t.same(one('one-host/frames-1', { weft: [null, null], kernel: [1, 1] }), ['undecided', 'not measured']);
  t.same(one('overlay/loss-100k', { weft: five(0) }, { offeredPercentOfRate: 80 }), [
    'undecided',
    'only 80 % of the rate was sent',
  ]);
  t.same(one('overlay/cpu', { weft: five(1), ovs: five(100) }, { idleCpus: 1.5 }), [
    'undecided',
    '1.5 CPUs were busy with something else',
  ]);
  t.end();
});

t.test('only what the run covered is listed', (t) => {
  t.same(figuresOf([]), []);
  t.same(figuresOf([measured('one-host/rr', { weft: five(1), kernel: five(1) })]), []);
  const peers = figuresOf([measured('overlay/tcp-1', { weft: five(1), kernel: five(1) })]).map(
    ({ against }) => against,
  );
  t.same(peers, ['kernel'], 'Open vSwitch took no part');
  t.end();
});
