/** A set of values answers as a list of them does, whatever is added and taken away. `SEED` repeats a run. */
import t from 'tap';
import { emptyKey, formatMegaflow } from '../../src/flow/key.ts';
import { fields } from '../../src/flow/fields.ts';
import { ValueSet } from '../../src/flow/value-set.ts';
import { FlowView } from '../../src/flow/view.ts';
import { Random } from '../support/random.ts';

const seed = Number(process.env['SEED'] ?? (process.hrtime.bigint() % 1_000_000n).toString());
const ROUNDS = 2000;

t.test(`it answers as a list of the same values does (SEED=${seed})`, async (t) => {
  const random = new Random(seed);
  // Few different bytes, so that values have beginnings in common and are added twice.
  const mac = (): Uint8Array => Uint8Array.from({ length: 6 }, () => random.pick([0, 2, 255]));
  const list: Uint8Array[] = [];
  const set = new ValueSet(6);
  const answers = new Set<string>();
  // Some answers are rare: it goes on until enough different ones were seen.
  for (let round = 0; round < ROUNDS || (round < 20 * ROUNDS && answers.size < 6); round++) {
    if (list.length > 0 && random.chance(list.length / 40)) set.delete(list.splice(random.int(list.length), 1)[0]!);
    else {
      const value = mac();
      list.push(value);
      set.add(value);
    }
    const key = emptyKey();
    key.set(random.chance(0.3) && list.length > 0 ? random.pick(list) : mac(), fields.eth_dst.offset);
    const [byList, bySet] = [new FlowView(key), new FlowView(key)];
    const isOne = byList.isOneOf('eth_dst', list);
    const megaflow = formatMegaflow(key, byList.mask);
    if (bySet.isIn('eth_dst', set) !== isOne || formatMegaflow(key, bySet.mask) !== megaflow) {
      t.equal(formatMegaflow(key, bySet.mask), megaflow, `round ${round}`);
      return;
    }
    answers.add(`${isOne} ${megaflow.split(':').length}`);
  }
  t.ok(answers.size >= 6, `the answers differ: ${[...answers].join(', ')}`);
});

t.test('nothing is used to tell that a value is in no empty set', async (t) => {
  const key = emptyKey();
  const view = new FlowView(key);
  const set = new ValueSet(4, [Uint8Array.of(0, 0, 0, 1)]);
  set.delete(Uint8Array.of(0, 0, 0, 1));
  t.equal(view.isIn('tun_vni', set), false);
  t.equal(formatMegaflow(key, view.mask), formatMegaflow(key, new FlowView(key).mask));
});

t.test('a value must fit into a number', async (t) => {
  t.throws(() => new ValueSet(7), RangeError);
});
