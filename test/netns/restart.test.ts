/**
 *   web ── weft ── db        an iperf3 stream and a probe; weft is killed
 *
 * A daemon that dies takes no connection with it: a new one finds the ports in their
 * containers, and the streams continue. (How long that takes at most: `test/long/kill.ts`.)
 */
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { parseResource } from '../../src/model/manifest.ts';
import { WEFT_V1 } from '../../src/model/kinds/kind.ts';
import { openLab } from '../support/lab.ts';
import { killAndRestart } from '../support/restart.ts';
import { oneHost, overlay } from '../support/topology.ts';
import { ping, isUnreachable } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const { weft, web, db } = await oneHost(openLab(t), datapath);
    await ping(web.namespace, db.ip4);

    await t.test('a TCP connection survives kill -9 and a new start', async (t) => {
      const { dataAgainMs, probeAgainMs } = await killAndRestart(weft, web, db);
      t.comment(
        `data again ${dataAgainMs.toFixed(0)} ms after the kill, probe again ${probeAgainMs.toFixed(0)} ms after the restart`,
      );
    });

    await t.test('SIGTERM keeps the ports, without traffic until the next start', async (t) => {
      await weft.stop();
      t.same(await web.namespace.links(), ['eth0']);
      t.ok(await isUnreachable(web.namespace, db.ip4));
      await weft.start();
      await ping(web.namespace, db.ip4);
      await ping(db.namespace, web.ip6);
    });

    await t.test('connections of another version are set aside, with a line in the log', async (t) => {
      await weft.stop();
      const file = weft.socket.replace(/\.sock$/, '.connections');
      // As it was before there was a header: records from the first byte on.
      const old = Buffer.alloc(65_537 * 256);
      old.fill(2, 0, 100);
      writeFileSync(file, old, { mode: 0o600 });
      await weft.start();
      t.match(weft.log(), /the connections of another version of weft cannot be taken over: they are set aside/);
      t.ok(readFileSync(`${file}.old`).equals(old), 'as it was');
      t.same(JSON.parse(await weft.run('connections', '-o', 'json')), []);
      await ping(web.namespace, db.ip4);
    });

    await t.test('down --purge removes them, and nothing else', async (t) => {
      const apply = (kind: string, name: string, spec: object) =>
        weft.client.apply([parseResource({ apiVersion: WEFT_V1, kind, metadata: { name }, spec })]);
      await apply('Host', 'far', { underlay: '192.0.2.9' });
      const { network } = overlay;
      await apply('Endpoint', 'api', { network, host: 'far', mac: '02:00:00:00:00:20', addresses: ['10.44.0.120'] });
      await weft.run('down', '--purge');
      t.same(await web.namespace.links(), []);
      t.same(await db.namespace.links(), []);
      await weft.start();
      const [api, ...others] = await weft.client.endpoints();
      t.match(
        api,
        { name: 'api', state: 'remote', addresses: ['10.44.0.120'] },
        'what was declared of other hosts stays',
      );
      t.same(others, []);
    });
  });
}
