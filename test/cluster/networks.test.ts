/** Planning of networks, as far as it needs no switch. */
import t from 'tap';
import { FileDraft } from '../../src/cluster/draft.ts';
import type { AddressPool } from '../../src/cluster/addresses/ipam.ts';
import { Networks } from '../../src/cluster/networks.ts';
import type { Reconciler } from '../../src/cluster/reconciler.ts';
import { RefusedRecords } from '../../src/cluster/refused-records.ts';
import type { Forwarding } from '../../src/forwarding.ts';
import { WEFT_V1 } from '../../src/model/kinds/kind.ts';
import type { NetworkResource } from '../../src/model/kinds/network.ts';
import { parseResource } from '../../src/model/manifest.ts';

const FILE = 1000;

await t.test('the underlay is asked for its MTU once a file', async (t) => {
  let asked = 0;
  const networks = new Networks({
    forwarding: {} as Forwarding,
    defaultMtu: async () => 1000 + ++asked,
    serviceClash: () => undefined,
    hasStaticPeers: () => false,
    refused: () => new RefusedRecords(),
    endpointsOf: () => [],
    countOf: () => 0,
    onChanged: async () => {},
    onAdded: () => {},
    onRemoved: async () => {},
  });
  for (const mtu of [1001, 1002]) {
    const draft = new FileDraft(new Map<string, Reconciler>([['Network', networks]]));
    for (let n = 0; n < FILE; n++) {
      const spec = { subnets: [`10.${n >> 8}.${n & 255}.0/24`] };
      const network = parseResource({ apiVersion: WEFT_V1, kind: 'Network', metadata: { name: `n${n}` }, spec });
      await draft.apply(network);
    }
    const { put = [] } = draft.transaction();
    t.equal(put.length, FILE);
    t.ok(put.every(({ value }) => (value as { mtu: number }).mtu === mtu));
  }
  t.equal(asked, 2);
});

await t.test('a change of labels forgets nothing about addresses', async (t) => {
  const networks = new Networks({
    forwarding: { setNetwork: () => {} } as unknown as Forwarding,
    defaultMtu: async () => 1500,
    serviceClash: () => undefined,
    hasStaticPeers: () => false,
    refused: () => new RefusedRecords(),
    endpointsOf: () => [],
    countOf: () => 0,
    onChanged: async () => {},
    onAdded: () => {},
    onRemoved: async () => {},
  });
  const put = async (revision: number, metadata: object): Promise<void> => {
    const resource = parseResource({
      apiVersion: WEFT_V1,
      kind: 'Network',
      metadata: { name: 'blue', ...metadata },
      spec: { subnets: ['10.0.0.0/24'] },
    }) as NetworkResource;
    await networks.put([{ name: 'blue', resource, revision, record: { resource, vni: 1, mtu: 1500 } }]);
  };
  const pool = (): AddressPool => networks.get('blue').pools[0] as AddressPool;
  const take = (owner = 'web'): string => pool().take(owner);
  await put(1, {});
  t.same([take(), take()], ['10.0.0.2', '10.0.0.3']);
  pool().release('10.0.0.2');
  await put(2, { labels: { a: 'b' } });
  t.equal(take('db'), '10.0.0.4', 'what has just been given back rests');
  t.equal(take(), '10.0.0.2', 'and waits for who had it');
});
