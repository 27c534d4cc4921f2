/** The tables in which hashes of connections find backends. */
import t from 'tap';
import { MaglevTable, sizeFor, type MaglevBackend } from '../../src/table/maglev.ts';
import { Random } from '../support/random.ts';

const seed = Date.now() % 2 ** 32;

function backends(count: number, random: Random, weightOf: (at: number) => number = () => 1): MaglevBackend[] {
  return Array.from({ length: count }, (_, at) => ({ id: at + 1, hash: random.int(2 ** 32), weight: weightOf(at) }));
}

function owners(table: MaglevTable): number[] {
  return Array.from({ length: table.size }, (_, slot) => table.at(slot));
}

/** How many slots each one has. */
function shares(table: MaglevTable): Map<number, number> {
  const counts = new Map<number, number>();
  for (const id of owners(table)) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

/** How many slots have another owner, although the one before is still there. */
function movedOfOthers(before: MaglevTable, after: MaglevTable, gone: ReadonlySet<number>): number {
  const now = owners(after);
  return owners(before).filter((id, slot) => !gone.has(id) && id !== now[slot]).length;
}

t.test('the smallest table with a hundred slots for each backend', async (t) => {
  t.same([1, 2, 3, 5, 6, 100, 655, 656, 5000].map(sizeFor), [251, 251, 509, 509, 1021, 16_381, 65_537, 65_537, 65_537]);
});

t.test(`everybody has an equal share (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  for (const count of [1, 2, 3, 10, 100, 700]) {
    const table = MaglevTable.of(backends(count, random));
    const counts = [...shares(table).values()];
    t.equal(counts.length, count);
    t.ok(Math.max(...counts) - Math.min(...counts) <= 1, `${count} backends`);
    if (count === 100) t.ok(Math.max(...counts) / (table.size / count) <= 1.01);
  }
});

t.test(`or what its weight entitles it to (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const ninety = shares(MaglevTable.of(backends(2, random, (at) => (at === 0 ? 90 : 10))));
  t.same([ninety.get(1), ninety.get(2)], [226, 25]);
  const none = shares(MaglevTable.of(backends(3, random, (at) => at)));
  t.same([none.get(1), none.get(2), none.get(3)], [undefined, 170, 339]);
  for (let round = 0; round < 50; round++) {
    const all = backends(1 + random.int(60), random, () => 1 + random.int(100));
    const table = MaglevTable.of(all);
    const total = all.reduce((sum, { weight }) => sum + weight, 0);
    const slots = shares(table);
    for (const { id, weight } of all) {
      const [share, exact] = [slots.get(id) ?? 0, (table.size * weight) / total];
      if (Math.abs(share - exact) >= 1) t.fail(`${share} slots instead of ${exact}`);
    }
  }
});

t.test(`a change moves what it has to, and nothing else (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const all = backends(100, random);
  const table = MaglevTable.of(all);
  t.same(owners(MaglevTable.of(all)), owners(table), 'always the same at the beginning');
  t.same(owners(MaglevTable.of(all, table)), owners(table));
  for (let round = 0; round < 20; round++) {
    const gone = random.pick(all);
    const without = MaglevTable.of(
      all.filter((backend) => backend !== gone),
      table,
    );
    t.equal(movedOfOthers(table, without, new Set([gone.id])), 0, 'one is down');
    const again = MaglevTable.of(all, without);
    const share = shares(again).get(gone.id)!;
    t.equal(movedOfOthers(without, again, new Set()), share, 'when it is back, it takes its share');
  }
});

t.test(`it stays fair, whatever happens (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const all = backends(80, random);
  let table: MaglevTable | undefined;
  let present = all.slice(0, 40);
  for (let round = 0; round < 200; round++) {
    present = all.filter((backend) => (random.chance(0.05) ? !present.includes(backend) : present.includes(backend)));
    if (present.length === 0) present = [all[0]!];
    table = MaglevTable.of(present, table);
    const slots = shares(table);
    const counts = present.map(({ id }) => slots.get(id) ?? 0);
    if (Math.max(...counts) - Math.min(...counts) > 1) t.fail(`round ${round}: ${counts.join(', ')}`);
  }
});
