/** What `weft attach` does besides declaring an endpoint. */
import t from 'tap';
import { attach } from '../../src/cluster/attaching.ts';
import { manifest, openControlPlane } from './control-plane.ts';

t.test('while an endpoint that moves waits for its old host to let go, everything else goes on', async (t) => {
  const { cluster, endpoints, networks } = await openControlPlane(t);
  const netns = '/proc/self/ns/uts';
  await cluster.apply([
    manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] }),
    manifest('Endpoint', 'web', { network: 'blue', netns }),
  ]);
  let retries = 0;
  // Before each retry, somebody else changes something, and waits for that.
  const after = (_: number, work: () => void): (() => void) => {
    const name = `n${++retries}`;
    void cluster.apply([manifest('Network', name, { subnets: [`10.1.${retries}.0/24`] })]).then(work);
    return () => {};
  };
  // Its interface cannot be created here.
  const options = { name: 'web', network: 'blue', netns, move: true };
  t.match(await attach({ cluster, endpoints, networks, after }, options), { state: 'waiting' });
  t.equal(retries, 100);
  t.ok(networks.find('n100'));
});

t.test('one that moves while the switch begins to stop has moved', async (t) => {
  const { cluster, endpoints, networks } = await openControlPlane(t);
  const netns = '/proc/self/ns/uts';
  await cluster.apply([
    manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] }),
    manifest('Endpoint', 'web', { network: 'blue', netns }),
  ]);
  const after = (_: number, work: () => void): (() => void) => {
    void cluster.serial.close().then(work);
    return () => {};
  };
  const options = { name: 'web', network: 'blue', netns, move: true };
  t.match(await attach({ cluster, endpoints, networks, after }, options), { name: 'web', state: 'waiting' });
});
