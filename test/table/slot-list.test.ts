/** Lists of slots, held against arrays that do the same the slow way. */
import t from 'tap';
import { SlotLinks, SlotList } from '../../src/table/slot-list.ts';
import { Random } from '../support/random.ts';

const SLOTS = 40;
const STEPS = 5000;

const seed = Number(process.env['WEFT_SEED'] ?? process.hrtime.bigint() % 0x7fffffffn);

t.test(`what is appended, taken out, first and next (WEFT_SEED=${seed})`, (t) => {
  const random = new Random(seed);
  const links = new SlotLinks(SLOTS);
  const lists = [new SlotList(links), new SlotList(links), new SlotList(links)];
  const twins: number[][] = [[], [], []];
  for (let step = 0; step < STEPS; step++) {
    const slot = random.int(SLOTS);
    const from = twins.findIndex((twin) => twin.includes(slot));
    if (from >= 0) {
      lists[from]!.delete(slot);
      twins[from] = twins[from]!.filter((each) => each !== slot);
    }
    if (random.chance(0.7)) {
      const to = random.int(lists.length);
      lists[to]!.append(slot);
      twins[to]!.push(slot);
    }
    for (const [n, twin] of twins.entries()) {
      const list = lists[n]!;
      const isSame =
        list.size === twin.length &&
        list.first === twin[0] &&
        twin.every((each, at) => list.after(each) === twin[at + 1]) &&
        [...list].every((each, at) => each === twin[at]);
      if (!isSame) throw new Error(`list ${n} differs after step ${step}`);
    }
  }
  t.pass('the same');
  t.end();
});
