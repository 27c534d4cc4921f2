/**
 *   ┌ client ┐ eth0 ── eth0 ┌ host ──────────────────────────┐
 *   │        │              │ weft0 ── weft ─┬─ web, db: blue│
 *   └────────┘              │                └─ shop: red    │
 *                           └────────────────────────────────┘
 *
 * The frames of an established flow never reach JavaScript: within a network, routed into
 * another, translated to the outside, and to a published port.
 */
import t from 'tap';
import { upcallsDuring } from '../support/established.ts';
import { openLab } from '../support/lab.ts';
import { outsideHost, outsideIps, routedShop } from '../support/topology.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

const STREAM_SECONDS = 1;
const IPERF_PORT = 5201;

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const host = await outsideHost(lab, datapath, [`${IPERF_PORT}:${IPERF_PORT}`]);
    const { client, weft, web, db } = host;
    const { shop, ip: shopIp } = await routedShop(lab, host);

    const streams = {
      switched: { from: web.namespace, to: db.namespace, ip: db.ip4 },
      'switched IPv6': { from: web.namespace, to: db.namespace, ip: db.ip6 },
      routed: { from: web.namespace, to: shop, ip: shopIp },
      translated: { from: web.namespace, to: client, ip: outsideIps.client.ip4 },
      'translated IPv6': { from: web.namespace, to: client, ip: outsideIps.client.ip6 },
      published: { from: client, to: web.namespace, ip: outsideIps.host.ip4 },
    };
    const seen = await upcallsDuring(weft, Object.values(streams), STREAM_SECONDS);
    for (const [n, what] of Object.keys(streams).entries()) {
      t.equal(seen[n]!.upcalls, 0, `${what}: upcalls while ${seen[n]!.frames} frames passed`);
    }
  });
}
