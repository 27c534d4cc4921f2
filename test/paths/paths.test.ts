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
    probe: undefined,
    clock: () => 0,
    local: () => parseIp('127.0.0.1'),
    onLook: (_, { mtu }, before) => {
      forwarding.setPathMtu(parseIp(peer), mtu);
      if (mtu !== before) changes.push(mtu);
    },
  });
  forwarding.addVtep(parseIp(peer));
  paths.watch([peer]);
  const known = inForce();
  t.ok(known !== undefined && known >= 1500, `${known} bytes on the loopback`);

  forwarding.removeVtep(parseIp(peer));
  paths.look();
  t.equal(inForce(), undefined, 'nothing is kept for what is no peer');
  forwarding.addVtep(parseIp(peer));
  paths.watch([peer]);
  t.equal(inForce(), known);
  t.same(changes, [known], 'and nothing has changed');
});
