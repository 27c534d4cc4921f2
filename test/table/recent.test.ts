/** The map whose oldest entry gives way, against a naive twin. */
import t from 'tap';
import { Recent } from '../../src/table/recent.ts';
import { Random } from '../support/random.ts';

const seed = Date.now() % 2 ** 32;

t.test(`the same as a list in the order of use (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const recent = new Recent<number>();
  /** The newest comes last. */
  let twin: { readonly key: string; readonly value: number }[] = [];
  for (let round = 0; round < 20_000; round++) {
    const key = `k${random.int(20)}`;
    const known = twin.find((one) => one.key === key)?.value;
    if (recent.get(key) !== known || recent.size !== twin.length) throw new Error(`round ${round}: ${key}`);
    if (random.chance(0.7)) {
      if (recent.use(key, round) !== known) throw new Error(`round ${round}: another value before`);
      twin = [...twin.filter((one) => one.key !== key), { key, value: round }];
    } else if (random.chance(0.8)) {
      if (recent.takeOldest() !== twin.shift()?.value) throw new Error(`round ${round}: not the oldest`);
    } else {
      const isOver = (value: number): boolean => value % 7 === round % 7;
      recent.removeIf(isOver);
      twin = twin.filter(({ value }) => !isOver(value));
    }
  }
  for (const { value } of twin) t.equal(recent.takeOldest(), value);
  t.equal(recent.takeOldest(), undefined);
});

t.test('its oldest entry is found at once, however many have been used since', async (t) => {
  // A Map would walk over the places of all deleted entries: minutes.
  const recent = new Recent<number>();
  for (let n = 0; n < 100_000; n++) recent.use(String(n), n);
  for (let n = 0; n < 200_000; n++) {
    recent.use(String(100_000 + n), n);
    recent.takeOldest();
  }
  t.equal(recent.size, 100_000);
});
