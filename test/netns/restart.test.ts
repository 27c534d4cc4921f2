/**
 *   web ── weft ── db        an iperf3 stream and a probe; weft is killed
 *
 * A daemon that dies takes no connection with it: a new one finds the ports in
 * their containers, and the streams go on. (How long that takes at most: `test/long/kill.ts`.)
 */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { killAndRestart } from '../support/restart.ts';
import { oneHost } from '../support/topology.ts';
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

    await t.test('down --purge removes them', async (t) => {
      await weft.run('down', '--purge');
      t.same(await web.namespace.links(), []);
      t.same(await db.namespace.links(), []);
      await weft.start();
      t.same(await weft.json('endpoints'), []);
    });
  });
}
