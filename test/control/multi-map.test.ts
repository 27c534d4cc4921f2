/** The map of many values, compared with a map of sets. */
import t from 'tap';
import { MultiMap } from '../../src/control/multi-map.ts';
import { Random } from '../support/random.ts';

const STEPS = 5000;
const seed = Number(process.env['WEFT_SEED'] ?? process.hrtime.bigint() % 0x7fffffffn);

/** In any order. */
function isSameSet(list: readonly number[], set: ReadonlySet<number>): boolean {
  return list.length === set.size && list.every((value) => set.has(value));
}

t.test(`what is added and deleted, and what of that was the first and the last (WEFT_SEED=${seed})`, (t) => {
  const random = new Random(seed);
  const map = new MultiMap<string, number>();
  const twin = new Map<string, Set<number>>();
  for (let step = 0; step < STEPS; step++) {
    const [key, value] = [String(random.int(6)), random.int(4)];
    const values = twin.get(key) ?? new Set();
    const before = values.size;
    const isAdded = random.chance(0.5);
    if (isAdded) values.add(value);
    else values.delete(value);
    twin.set(key, values);
    const told = isAdded ? map.add(key, value) : map.delete(key, value);
    const expected = isAdded ? before === 0 : before === 1 && values.size === 0;
    const isSame = told === expected && isSameSet([...map.get(key)], values);
    if (!isSame) throw new Error(`key ${key} differs after step ${step}`);
  }
  t.pass('the same');
  t.end();
});
