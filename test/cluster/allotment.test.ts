/** Several hosts with one store: what they create at once does not overlap, and is refused only if it does. */
import t from 'tap';
import { networkKind } from '../../src/model/kinds/network.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

const network = (name: string, subnet: string, spec: object = {}) =>
  manifest('Network', name, { subnets: [subnet], ...spec });

t.test('networks that several hosts create at once all come about, each with a VNI of its own', async (t) => {
  const shared = await openStore(t);
  const hosts = [];
  for (const host of ['a', 'b', 'c']) hosts.push(await openControlPlane(t, undefined, { host, shared }));
  const created = hosts.flatMap(({ cluster }, at) =>
    [0, 1, 2, 3].map((n) => cluster.apply([network(`n${at}-${n}`, `10.${at}.${n}.0/24`)])),
  );
  for (const [report] of await Promise.all(created)) t.equal(report?.action, 'created');
  for (const { cluster, networks } of hosts) {
    await cluster.serial.run(() => cluster.enforce());
    const vnis = networks.all().map(({ vni }) => vni);
    t.same(
      [...vnis].sort((x, y) => x - y),
      Array.from({ length: 12 }, (_, n) => n + 1),
    );
  }
});

t.test('of networks that overlap or ask for one VNI, and come at once, one is refused', async (t) => {
  const shared = await openStore(t);
  const [a, b] = [
    await openControlPlane(t, undefined, { host: 'a', shared }),
    await openControlPlane(t, undefined, { host: 'b', shared }),
  ];
  for (const [one, other, why] of [
    [network('red', '10.0.0.0/16'), network('blue', '10.0.7.0/24'), /subnet 10\.0\.\S+ overlaps 10\.0\.\S+ of network/],
    [network('pink', '10.1.0.0/24', { vni: 7 }), network('cyan', '10.2.0.0/24', { vni: 7 }), /VNI 7 is taken by/],
    [network('same', '10.3.0.0/24'), network('same', '10.4.0.0/24'), /exists with subnets/],
  ] as const) {
    const results = await Promise.allSettled([a.cluster.apply([one]), b.cluster.apply([other])]);
    t.same(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected'], String(why));
    const refused = results.find(({ status }) => status === 'rejected') as PromiseRejectedResult;
    t.match(refused.reason, { code: 'conflict', message: why });
  }
  t.same(await a.store.get('allotment/networks'), await b.store.get('allotment/networks'));
});

t.test('what a deleted network had is free for another one', async (t) => {
  const shared = await openStore(t);
  const { cluster, networks } = await openControlPlane(t, undefined, { host: 'a', shared });
  await cluster.apply([network('red', '10.0.0.0/16'), network('blue', '10.1.0.0/16')]);
  await cluster.delete(networkKind, { name: 'red' });
  await cluster.apply([network('pink', '10.0.0.0/24')]);
  t.equal(networks.get('pink').vni, 1);
  t.same((await shared.get('allotment/networks'))?.value, {
    networks: { blue: { vni: 2, subnets: ['10.1.0.0/16'] }, pink: { vni: 1, subnets: ['10.0.0.0/24'] } },
  });
});

t.test(
  'a network that another program wrote comes into the record, and a damaged record is written anew',
  async (t) => {
    const shared = await openStore(t);
    const { cluster, write } = await openControlPlane(t, undefined, { host: 'a', shared });
    const foreign = network('foreign', '10.9.0.0/24');
    await write({
      'networks/foreign': { resource: foreign, vni: 1, mtu: 1450 },
      'allotment/networks': { networks: 7 },
    });
    await cluster.apply([network('red', '10.0.0.0/16')]);
    t.match((await shared.get('allotment/networks'))?.value, { networks: { foreign: { vni: 1 }, red: { vni: 2 } } });
  },
);

t.test('ranges are for static peers', async (t) => {
  const shared = await openStore(t);
  const { cluster } = await openControlPlane(t, undefined, { host: 'a', shared });
  await t.rejects(cluster.apply([network('red', '10.0.0.0/24', { ranges: ['10.0.0.8-10.0.0.9'] })]), {
    code: 'invalid',
    message: /^network "red": range 10\.0\.0\.8-10\.0\.0\.9: with a shared store/,
  });
});
