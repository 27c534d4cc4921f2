/** The path MTU of a peer is in force for as long as it is a peer, however often it was removed in between. */
import t from 'tap';
import { parseIp } from '../../src/flow/types.ts';
import { Paths } from '../../src/paths/paths.ts';
import { createSimulation } from '../../src/simulation.ts';

t.test('a peer that is removed and added again at once', async (t) => {
  const net = createSimulation();
  t.teardown(() => net.close());
  const { forwarding } = net.host('a', '127.0.0.1');
  const peer = '127.0.0.2';
  const inForce = (): number | undefined => forwarding.tables.topology.vteps.path(parseIp(peer)).mtu;
  const changes: number[] = [];
  const paths = new Paths({
    probe: () => undefined,
    clock: () => 0,
    local: () => parseIp('127.0.0.1'),
    onLook: (_, { mtu }, before) => {
      forwarding.remote.setPathMtu(parseIp(peer), mtu);
      if (mtu !== before) changes.push(mtu);
    },
  });
  forwarding.remote.addVtep(parseIp(peer));
  paths.watch([peer]);
  const known = inForce();
  t.ok(known !== undefined && known >= 1500, `${known} bytes on the loopback`);

  forwarding.remote.removeVtep(parseIp(peer));
  paths.look();
  t.equal(inForce(), undefined, 'nothing is kept for what is no peer');
  forwarding.remote.addVtep(parseIp(peer));
  paths.watch([peer]);
  t.equal(inForce(), known);
  t.same(changes, [known], 'and nothing has changed');
});

t.test('of very many peers, the kernel is asked about some at a time, and about all of them in turn', async (t) => {
  const peers = Array.from({ length: 300 }, (_, n) => `127.0.${1 + (n >> 8)}.${n & 255}`);
  let local: Uint8Array | undefined = parseIp('127.0.0.1');
  const paths = new Paths({ probe: () => undefined, clock: () => 0, local: () => local, onLook: () => {} });
  paths.watch(peers);
  t.equal(paths.known.size, 300, 'those that are new at once');
  const after = (looks: number): number => {
    for (let look = 0; look < looks; look++) paths.look();
    return paths.known.size;
  };
  t.equal(after(3), 300);
  local = undefined;
  const left = after(1);
  t.ok(left > 100 && left < 300, `${left} are left when the underlay has gone`);
  t.equal(after(3), 0);
  local = parseIp('127.0.0.1');
  t.equal(after(3), 300, 'and all are back with it');
  paths.watch(peers.slice(0, 10));
  t.equal(paths.known.size, 10);
});
