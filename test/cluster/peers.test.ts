/** Whom this host probes, and what it says of those who probe it. */
import t from 'tap';
import { Peers } from '../../src/cluster/membership/peers.ts';
import type { LivenessSettings, PeerLiveness } from '../../src/datapath/liveness.ts';
import { formatIp, parseIp } from '../../src/flow/types.ts';

t.test('hosts are looked at only when they, networks or keys have changed', async (t) => {
  let [vteps, networks, key]: [readonly string[], { name: string; vni: number }[], Uint8Array] = [
    ['192.0.2.1', '192.0.2.2'],
    [{ name: 'blue', vni: 5 }],
    Uint8Array.of(1),
  ];
  const told: LivenessSettings[] = [];
  let looked = 0;
  const peers = new Peers({
    forwarding: {
      remote: { setLiveness: (settings) => void told.push(settings), peers: () => [], strangers: () => [] },
    },
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
  peers.askForPatience();
  t.match(told[4], { intervalMs: 1000, multiplier: 3, vnis: [6] }, 'another daemon takes over: peers wait for longer');
  vteps = ['192.0.2.2'];
  peers.follow();
  t.equal(told[5]?.intervalMs, 1000, 'also after a change that is still under way');
});

const VTEP = '192.0.2.2';
const KEY = Buffer.alloc(32, 1);

/** @param heardMs when the last authentic probe of the peer came @param lastMs when one was refused */
function clashes(heardMs: number | undefined, lastMs: number, sender = VTEP): string[] {
  const address = parseIp(VTEP);
  const peer = {
    ...{ address, state: 'up', fault: 'none', hasTwin: false, sinceMs: 0, heardMs, roundTripMs: 1 },
    ...{ lossIn: 0, lossOut: 0, vnis: undefined },
  } as unknown as PeerLiveness;
  const peers = new Peers({
    forwarding: {
      remote: {
        setLiveness: () => {},
        peers: () => [peer],
        strangers: () => [{ address: parseIp(sender), reason: 'probe_unknown_peer', count: 1, lastMs }],
      },
    },
    liveness: { session: Buffer.alloc(8), intervalMs: 300, multiplier: 3 },
    vteps: () => [VTEP],
    sources: () => [],
    nameOf: () => 'there',
    keyOf: () => KEY,
    networks: () => [],
    pathMtu: () => undefined,
    isShared: true,
    vxlanPort: 4789,
    clock: () => 1000,
    wallClock: () => 0,
    onChange: () => {},
  });
  return peers.clashes().map(({ detail }) => detail);
}

t.test('probes that came before their host was known are not told of once it is', async (t) => {
  t.same(clashes(undefined, 500), [`peer ${VTEP} probes this host, which has no key for it`]);
  t.same(clashes(400, 500), [`peer ${VTEP} probes this host, which has no key for it`]);
  t.same(clashes(600, 500), []);
  t.same(clashes(600, 500, '192.0.2.3'), ['192.0.2.3 probes this host, and is no peer of it']);
});
