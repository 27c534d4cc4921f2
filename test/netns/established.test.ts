/**
 *   ┌ client ┐ eth0 ── eth0 ┌ host ──────────────────────────┐
 *   │        │              │ weft0 ── weft ─┬─ web, db: blue│
 *   └────────┘              │                └─ shop: red    │
 *                           └────────────────────────────────┘
 *
 * The frames of an established flow never reach JavaScript: within a network, routed into
 * another, translated to the outside, and to a published port.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { upcallsDuring } from '../support/established.ts';
import { openLab } from '../support/lab.ts';
import { outsideHost, outsideIps, overlay } from '../support/topology.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

const STREAM_SECONDS = 1;
const IPERF_PORT = 5201;
const shopIp = '10.45.0.11';
const networks = `
apiVersion: weft.dev/v1
kind: Network
metadata: { name: ${overlay.network} }
spec: { subnets: ${JSON.stringify(overlay.subnets)}, vni: ${overlay.vni}, outside: true, routes: [{ to: 10.45.0.0/24, network: red }] }
---
apiVersion: weft.dev/v1
kind: Network
metadata: { name: red }
spec: { subnets: [10.45.0.0/24], routes: [{ to: 10.44.0.0/24, network: ${overlay.network} }] }
`;

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const { client, weft, web, db } = await outsideHost(lab, datapath, [`${IPERF_PORT}:${IPERF_PORT}`]);
    const file = join(lab.directory, 'networks.yaml');
    writeFileSync(file, networks);
    await weft.run('apply', '-f', file);
    const shop = await lab.namespace('shop');
    await weft.attach(shop, { network: 'red', arguments: ['--ip', shopIp] });

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
