/** The check at load names every difference between the addon's tables and this program's. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { loadAddon } from '../../src/addon/addon.ts';
import { layoutDifferences, ownLayout } from '../../src/addon/layout.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { emptyKey } from '../../src/flow/key.ts';
import { until } from '../support/process.ts';
import { flowId, maskOf, output } from '../conformance/harness.ts';

t.test('the addon was built from the same tables', async (t) => {
  t.same(layoutDifferences(loadAddon().layout, ownLayout), []);
});

t.test('each kind of difference is named', async (t) => {
  const differences = (change: Partial<typeof ownLayout>) => layoutDifferences({ ...ownLayout, ...change }, ownLayout);
  t.same(differences({ fields: { ...ownLayout.fields, ip_ttl: [75, 1] } }), [
    'field ip_ttl is 75+1 there and 74+1 here',
  ]);
  t.same(differences({ opcodes: { ...ownLayout.opcodes, mirror: 5 } }), ['opcode mirror is 5 there and missing here']);
  const [first, second, ...rest] = ownLayout.reasons;
  t.same(differences({ reasons: [second!, first!, ...rest] }), [
    `drop reason 0 is "${second}" there and "${first}" here`,
    `drop reason 1 is "${first}" there and "${second}" here`,
  ]);
  t.same(differences({ numbers: { ...ownLayout.numbers, MASK_CAP: 128 } }), ['MASK_CAP is 128 there and 64 here']);
});

t.test('a dump of many flows has each once', async (t) => {
  const dp = openNativeDatapath({
    threads: 0,
    flowCap: 10_000,
    clock: () => 3.5,
    onUpcall: () => {},
    onPortLost: () => {},
  });
  const mask = maskOf('l4_src');
  for (let id = 0; id < 5000; id++) {
    const key = emptyKey();
    key.set([id >> 8, id & 255], 76);
    dp.flowPut({ id: flowId(id), key, mask, actions: output(1 + (id % 7)) });
  }
  for (let id = 0; id < 5000; id += 3) dp.flowDel(flowId(id));
  const flows = [...dp.flowDump()].sort((a, b) => a.id - b.id);
  t.same(
    flows.map(({ id }) => id),
    Array.from({ length: 5000 }, (_, id) => id).filter((id) => id % 3 !== 0),
  );
  t.ok(
    flows.every(
      ({ id, key, actions, lastUsedMs }) =>
        key[76]! * 256 + key[77]! === id && lastUsedMs === 3.5 && actions.length === 1,
    ),
  );
  dp.close();
});

t.test('a datapath that is closed and that nobody refers to is freed', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const closed = [0, 1, 0, 1].map((threads) => {
    const dp = openNativeDatapath({
      threads,
      flowCap: 1000,
      clock: () => 1,
      onUpcall: () => {},
      onPortLost: () => {},
    });
    dp.close();
    return new WeakRef(dp);
  });
  const isFreed = (): boolean => {
    collect();
    return closed.every((ref) => ref.deref() === undefined);
  };
  await until(isFreed, { what: 'all are freed' });
  t.equal(closed.length, 4);
});
