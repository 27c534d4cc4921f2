/**
 *   web ─ eth0 (TAP) ─┬─ weft
 *                     └─ a program in the container that attaches a queue, too
 *
 * Without CAP_NET_ADMIN in the namespace this is impossible, even if everybody may open the
 * device. Whoever has it can keep weft out as long as they hold their queue: weft waits for
 * that and says so; and their changes to the TAP are undone.
 */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until, type Background } from '../support/process.ts';
import { oneHost, overlay, type Container } from '../support/topology.ts';
import { ping, python } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

const NOBODY = 65_534;
const ROOT = 0;

const queue = ({ namespace }: Container, uid: number, headerBytes = 0): Background =>
  namespace.start(python('tap_queue.py', 'eth0', uid, headerBytes));

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const { weft, web, db } = await oneHost(lab, datapath);
    await ping(web.namespace, db.ip4);
    const state = async (): Promise<string | undefined> =>
      (await weft.json('endpoints')).find(({ name }) => name === 'web')?.state;
    const problems = async (): Promise<string | undefined> => (await weft.status()).endpointProblems['web']?.join();

    await t.test('an unprivileged program cannot attach', async (t) => {
      const refused = queue(web, NOBODY);
      await refused.says('refused EPERM');
      t.pass('refused');
    });

    await t.test('what a privileged one changed is put back, and that it is there is told', async (t) => {
      const held = queue(web, ROOT, 24);
      await held.says('held');
      await until(async () => /another program has eth0 open, too/.test((await problems()) ?? ''), {
        what: 'it is told',
      });
      await held.stop('SIGKILL');
      await until(async () => (await problems()) === undefined, { what: 'it is over' });
      await ping(web.namespace, db.ip4, { size: 1000 });
      t.match(weft.log(), /"mended":\["the header of its frames"\]/);
    });

    await t.test('a queue that is held while weft starts is waited for, and every verb works', async (t) => {
      await weft.kill();
      const held = queue(web, ROOT);
      await held.says('held');
      await weft.start();
      t.equal(await state(), 'waiting');
      t.match(await problems(), /interface "eth0" in \S+ is in use by another program/);
      const again = ['--network', overlay.network, '--netns', web.namespace.name];
      t.match(await weft.run('attach', 'web', ...again), 'waiting');
      t.match(
        await weft.run('attach', 'web', ...again, '--label', 'app=x', '--ip', web.ip4, '--ip', web.ip6),
        'waiting',
      );
      await held.stop('SIGKILL');
      await until(async () => (await state()) === 'attached', { what: 'attached again' });
      await ping(web.namespace, db.ip4);
      await ping(db.namespace, web.ip6);

      await weft.kill();
      const heldAgain = queue(web, ROOT);
      await heldAgain.says('held');
      await weft.start();
      t.equal(await state(), 'waiting');
      await weft.run('detach', 'web');
      t.same(await web.namespace.links(), [], 'its interface has gone, whoever has it open');
      await heldAgain.stop('SIGKILL');
      await weft.attach(web.namespace, { network: overlay.network, arguments: ['--ip', web.ip4] });
      await ping(web.namespace, db.ip4);
    });
  });
}
