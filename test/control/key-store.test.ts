/** The key store returns what was stored, after any order of adding and removing. */
import t from 'tap';
import { KeyStore } from '../../src/control/key-store.ts';
import { KEY_BYTES } from '../../src/flow/fields.ts';
import { emptyKey } from '../../src/flow/key.ts';
import { Random } from '../support/random.ts';

const seed = Number(process.env['WEFT_SEED'] ?? Date.now() % 1_000_000);

t.test(`against a map (WEFT_SEED=${seed})`, async (t) => {
  const random = new Random(seed);
  const store = new KeyStore();
  const twin = new Map<number, Uint8Array>();
  const scratch = emptyKey();
  let most = 0;
  for (let step = 0; step < 20_000; step++) {
    if (random.chance(0.6)) {
      const key = random.bytes(KEY_BYTES);
      const slot = store.add(key);
      if (twin.has(slot)) t.fail(`slot ${slot} is in use`);
      twin.set(slot, key.slice());
      key.fill(0);
    } else if (twin.size > 0) {
      const slot = random.pick([...twin.keys()].slice(0, 50));
      if (Buffer.compare(store.read(slot, scratch), twin.get(slot)!) !== 0) t.fail(`slot ${slot} holds another key`);
      store.remove(slot);
      twin.delete(slot);
    }
    most = Math.max(most, twin.size);
  }
  t.ok([...twin].every(([slot, key]) => Buffer.compare(store.read(slot), key) === 0));
  t.ok(
    [...twin.keys()].every((slot) => slot < most),
    'slots that are free again are used first',
  );
});
