/** Medians, spreads and paired ratios of the benchmark. */
import fc from 'fast-check';
import t from 'tap';
import { pairedRatios, summarize } from '../../bench/statistics.ts';

t.test('a summary is the median, the least and the greatest', (t) => {
  t.same(summarize([7]), { median: 7, min: 7, max: 7 });
  t.same(summarize([10, 9, 100]), { median: 10, min: 9, max: 100 }, 'by number, not by text');
  t.same(summarize([4, 1, 3, 2]), { median: 2.5, min: 1, max: 4 }, 'of an even number the mean of the middle two');
  t.throws(() => summarize([]), RangeError);
  t.end();
});

t.test('half of the values are on either side of the median, in any order', (t) => {
  const values = fc.array(fc.double({ noNaN: true, min: -1e9, max: 1e9 }), { minLength: 1, maxLength: 50 });
  fc.assert(
    fc.property(values, (all) => {
      const before = [...all];
      const { median, min, max } = summarize(all);
      const half = all.length / 2;
      return (
        all.filter((value) => value < median).length <= half &&
        all.filter((value) => value > median).length <= half &&
        all.every((value) => min <= value && value <= max) &&
        all.includes(min) &&
        all.includes(max) &&
        before.every((value, i) => Object.is(value, all[i]))
      );
    }),
  );
  t.end();
});

t.test('ratios pair what was measured in the same round', (t) => {
  t.same(pairedRatios([1, 2, 3], [2, 2, 2]), [0.5, 1, 1.5]);
  t.same(pairedRatios([1, null, 3, 4], [2, 2, null, 0]), [0.5], 'a round without both has none, nor one divided by 0');
  t.same(pairedRatios([1, 2], [4]), [0.25], 'rounds that the peer never had');
  // The machine was slow in the second round, so both figures halve and the ratio stays the same.
  t.same(summarize(pairedRatios([8, 4, 8], [16, 8, 16])), { median: 0.5, min: 0.5, max: 0.5 });
  t.end();
});
