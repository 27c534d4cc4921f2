/**
 * The flow cache compared with its naive twin, a list of flows that is searched one by one. WEFT_SEED repeats a run.
 */
import { deepStrictEqual, strictEqual } from 'node:assert';
import t from 'tap';
import { MASK_CAP } from '../../src/flow/bounds.ts';
import { FlowCache } from '../../src/datapath/reference/flow-cache.ts';
import { KEY_BYTES } from '../../src/flow/fields.ts';
import { applyMask, bytesId, covers } from '../../src/flow/key.ts';
import { Random } from '../support/random.ts';
import { consume, flowId, maskOf } from './harness.ts';

interface Entry {
  id: number;
  readonly key: Uint8Array;
  readonly mask: Uint8Array;
}

/** Masks in the order in which they came, each with its flows. */
class List {
  readonly masks: { readonly mask: Uint8Array; readonly entries: Entry[] }[] = [];
  readonly cap: number;
  readonly refused = { flows: 0, masks: 0 };

  constructor(cap: number) {
    this.cap = cap;
  }

  get entries(): Entry[] {
    return this.masks.flatMap(({ entries }) => entries);
  }

  lookup(key: Uint8Array): number | undefined {
    return this.entries.find((entry) => covers(entry.key, entry.mask, key))?.id;
  }

  put(id: number, key: Uint8Array, mask: Uint8Array): boolean {
    if (this.entries.some((entry) => entry.id === id)) return true;
    const masked = applyMask(key, mask);
    const same = this.entries.find(
      (entry) => bytesId(entry.key) + bytesId(entry.mask) === bytesId(masked) + bytesId(mask),
    );
    if (same) {
      same.id = id;
      return true;
    }
    const group = this.masks.find((one) => bytesId(one.mask) === bytesId(mask));
    const refused = this.entries.length >= this.cap ? 'flows' : !group && this.masks.length >= MASK_CAP && 'masks';
    if (refused) {
      this.refused[refused]++;
      return false;
    }
    if (group) group.entries.push({ id, key: masked, mask });
    else this.masks.push({ mask, entries: [{ id, key: masked, mask }] });
    return true;
  }

  delete(id: number): void {
    for (const { entries } of this.masks) {
      const at = entries.findIndex((entry) => entry.id === id);
      if (at >= 0) entries.splice(at, 1);
    }
    const empty = this.masks.findIndex(({ entries }) => entries.length === 0);
    if (empty >= 0) this.masks.splice(empty, 1);
  }
}

const seed = Number(process.env['WEFT_SEED'] ?? process.hrtime.bigint() % 0x7fffffffn);

t.test(`20,000 random calls (WEFT_SEED=${seed})`, async (t) => {
  const random = new Random(seed);
  const [cache, list] = [new FlowCache(150), new List(150)];
  const masks = Array.from({ length: 200 }, () => {
    const mask = maskOf();
    for (const name of ['in_port', 'ip_src', 'ip_dst', 'l4_src', 'l4_dst', 'ip_ttl', 'nd_lla'] as const) {
      if (random.chance(0.5)) for (const [at, byte] of maskOf(name).entries()) mask[at]! |= byte;
    }
    return mask;
  });
  const randomKey = () => Uint8Array.from({ length: KEY_BYTES }, () => random.int(2));
  const keys = Array.from({ length: 60 }, randomKey);
  let hits = 0;
  for (let i = 0; i < 20_000; i++) {
    const key = random.pick(keys);
    const id = 1 + random.int(1000);
    switch (random.int(4)) {
      case 0: {
        // An id keeps its key and mask as long as it lives.
        const known = list.entries.find((entry) => entry.id === id);
        const mask = known?.mask ?? random.pick(masks);
        const put = cache.put({ id: flowId(id), key: known?.key ?? key, mask, actions: consume }, i);
        strictEqual(put, list.put(id, known?.key ?? key, mask), `put ${i}`);
        break;
      }
      case 1:
        cache.delete(flowId(id));
        list.delete(id);
        break;
      default: {
        const found = cache.lookup(key)?.id;
        strictEqual(found, list.lookup(key), `lookup ${i}`);
        if (found) hits++;
      }
    }
    strictEqual(cache.flows, list.entries.length);
    strictEqual(cache.masks, list.masks.length);
    deepStrictEqual(cache.refused, list.refused);
  }
  t.ok(hits > 1000, `${hits} hits`);
  t.ok(list.refused.flows > 10 && list.refused.masks > 10, `refused: ${JSON.stringify(list.refused)}`);
});
