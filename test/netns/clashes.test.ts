/**
 *   ┌ left, named twin ──────┐              ┌ right, named twin ─────┐
 *   │ web (11) ── weft VXLAN ┼── underlay ──┼ VXLAN weft ── web (21) │
 *   └────────────────────────┘              └────────────────────────┘
 *
 * Two hosts that were set up alike: what has to differ differs.
 */
import t from 'tap';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { openLab } from '../support/lab.ts';
import { overlay, overlayIps, underlay } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const datapath = 'native';
const [[left4, left6], [right4, right6]] = [overlayIps(11), overlayIps(21)];

t.test('two hosts of one name, with endpoints of one name, reach each other', async (t) => {
  const lab = openLab(t);
  const under = await underlay(lab, 'ipv4');
  const named = { datapath, arguments: ['--host', 'twin'] } as const;
  const left = await Weft.up(lab, under.left, 'left', { ...named, underlay: under.leftIp, peers: [under.rightIp] });
  const right = await Weft.up(lab, under.right, 'right', { ...named, underlay: under.rightIp, peers: [under.leftIp] });
  for (const host of [left, right]) await host.createNetwork(overlay.create);
  const ips = (ip4: string, ip6: string): string[] => ['--ip', ip4, '--ip', ip6];
  const [webLeft, webRight] = [await lab.namespace('web-left'), await lab.namespace('web-right')];
  const there = { name: 'web', network: overlay.network };
  const one = await left.attach(webLeft, { ...there, arguments: ips(left4, left6) });
  const other = await right.attach(webRight, { ...there, arguments: ips(right4, right6) });
  t.equal(one.host, other.host, 'they have one name');
  t.not(one.mac, other.mac, 'and MACs of their own');
  for (const ip of [right4, right6]) await ping(webLeft, ip);

  // As a state directory was before hosts had an identity.
  await left.stop();
  const store = await openEmbeddedStore({ directory: left.state, onWarning: (message) => t.fail(message) });
  await store.transact({ delete: ['identity'] });
  await store.close();
  await left.start();
  t.same(await left.json('endpoints'), [one], 'an endpoint keeps its MAC');
  for (const ip of [left4, left6]) await ping(webRight, ip);
});
