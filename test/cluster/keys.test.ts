/** What the records of a shared store are called in messages. */
import t from 'tap';
import { nameOfKey } from '../../src/cluster/keys.ts';
import { within } from '../../src/store/within.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

t.test('each record is called what it is', async (t) => {
  const names = {
    'networks/blue': 'network "blue"',
    'endpoints/shop/web': 'endpoint "shop/web"',
    'endpoints/default/web': 'endpoint "web"',
    'blocks/blue/4-10.0.0.16': 'address block 10.0.0.16 of network "blue"',
    'allotment/networks': 'list of the VNIs and subnets in use',
    'allotment/services': 'ranges of service addresses',
    'host-claims/id/0123': 'claim of host id 0123',
    'host-claims/underlay/192.0.2.2': 'claim of underlay 192.0.2.2',
    'host-claims/mac/a1b2c3': 'claim of MAC bits a1b2c3',
    'keys/probe': 'key of the probes',
    'live/b': 'presence of host "b"',
    'node-ports/30080': 'claim of node port 30080',
    'unconfirmed/change': 'unconfirmed change',
    'unconfirmed/of/networks/blue': 'unconfirmed change of network "blue"',
    'unhealthy/b': 'unhealthy backends of host "b"',
    'vips/10.96.0.10': 'claim of service address 10.96.0.10',
    'of/somebody': 'record "of/somebody"',
  };
  for (const [key, name] of Object.entries(names)) t.equal(nameOfKey(key), name);
});

t.test('none of those that hosts write is without a name, but that of the store itself', async (t) => {
  const root = await openStore(t);
  const [shared, applied] = [within(root, 'state/'), within(root, 'applied/')];
  const { cluster } = await openControlPlane(t, undefined, {
    ...{ host: 'a', shared, applied, underlay: '192.0.2.1' },
    serviceCidrs: ['10.96.0.0/16'],
  });
  await cluster.apply([
    manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] }),
    manifest('Service', 'web', { selector: { app: 'web' }, type: 'NodePort', ports: [{ port: 80 }] }),
  ]);
  await cluster.apply([manifest('Network', 'red', { subnets: ['10.1.0.0/24'] })], { confirmMs: 60_000 });
  const keys = (await shared.list('')).entries.map(({ key }) => key);
  t.ok(keys.length > 10, keys.join(', '));
  t.same(
    keys.filter((key) => nameOfKey(key).startsWith('record ')),
    ['format'],
  );
});
