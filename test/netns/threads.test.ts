/**
 *   web ─┐        ┌─ db
 *        weft ═══ weft      three datapath threads each
 *   app ─┘
 *
 * With several threads it is the same switch: each flow has its thread, and numbers include all
 * of them.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { attachContainer, overlay, underlay } from '../support/topology.ts';
import { askOverUdp, ping, stream } from '../support/traffic.ts';
import { transfer } from '../support/transfer.ts';
import { storeKinds, twoHosts } from '../support/two-hosts.ts';

t.setTimeout(600_000);

for (const store of storeKinds) {
  await t.test(`three threads, with ${store}`, async (t) => {
    const lab = openLab(t);
    const under = await underlay(lab, 'ipv4');
    const file = join(lab.directory, 'weft.yaml');
    writeFileSync(file, 'threads: 3\n');
    const options = { arguments: ['--config', file] };
    const { left, right, createNetwork } = await twoHosts(lab, under, { datapath: 'native', store }, options);
    await createNetwork(overlay.create);
    const web = await attachContainer(lab, left, 'web', 11);
    const app = await attachContainer(lab, left, 'app', 12);
    const db = await attachContainer(lab, right, 'db', 21);

    for (const [from, to] of [
      [web, app],
      [web, db],
      [db, app],
    ] as const) {
      await ping(from.namespace, to.ip4);
      await ping(from.namespace, to.ip6);
      await askOverUdp(from.namespace, to.namespace, to.ip6);
      await stream(from.namespace, to.namespace, to.ip4, { bytes: 20_000_000, parallel: 4 });
      await transfer(from.namespace, to.namespace, [to.ip4, to.ip6], [{ kind: 'tcp', bytes: 1_000_000 }]);
    }

    // A container may send something by itself while the numbers are added up.
    const isSum = async (): Promise<boolean> => {
      const { datapath, ports } = await left.status();
      return datapath.rx === ports.reduce((sum, port) => sum + port.rxFrames, 0);
    };
    await until(isSum, { what: 'what the ports received, all threads together' });
    const flows = await left.json('flows');
    t.equal(new Set(flows.map(({ id }) => id)).size, flows.length, 'a flow is told of once');

    await left.kill();
    await left.start();
    await ping(web.namespace, db.ip4);
  });
}
