/** Whom this host probes. */
import t from 'tap';
import { Peers } from '../../src/cluster/peers.ts';
import type { LivenessSettings } from '../../src/datapath/liveness.ts';
import { formatIp } from '../../src/flow/types.ts';

t.test('hosts are looked at only when they, networks or keys have changed', async (t) => {
  let [vteps, networks, key]: [readonly string[], { name: string; vni: number }[], Uint8Array] = [
    ['192.0.2.1', '192.0.2.2'],
    [{ name: 'blue', vni: 5 }],
    Uint8Array.of(1),
  ];
  const told: LivenessSettings[] = [];
  let looked = 0;
  const peers = new Peers({
    forwarding: { setLiveness: (settings) => void told.push(settings), peers: () => [], strangers: () => [] },
    liveness: { session: new Uint8Array(8), intervalMs: 300, multiplier: 3 },
    vteps: () => {
      looked++;
      return vteps;
    },
    sources: () => [vteps, networks, key],
    nameOf: () => undefined,
    keyOf: () => key,
    networks: () => networks,
    pathMtu: () => undefined,
    isShared: true,
    vxlanPort: 4789,
    clock: () => 0,
    wallClock: () => 0,
    onChange: () => {},
  });
  for (let change = 0; change < 3; change++) peers.follow();
  t.equal(looked, 1);
  t.same(
    told[0]?.peers.map(({ address }) => formatIp(address)),
    vteps,
  );
  vteps = ['192.0.2.1'];
  peers.follow();
  t.same(
    told[1]?.peers.map(({ address }) => formatIp(address)),
    vteps,
  );
  networks = [{ name: 'green', vni: 6 }];
  peers.follow();
  t.same(told[2]?.vnis, [6]);
  key = Uint8Array.of(2);
  peers.follow();
  t.same(told[3]?.peers[0]?.key, key);
  key = Uint8Array.of(2);
  peers.follow();
  t.equal(told.length, 4, 'what is the same is not said again');
});
