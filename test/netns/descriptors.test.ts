/**
 *   web ── weft, 96 descriptors ── db
 *             ▲        ▲
 *      40 interfaces   80 API clients that say nothing
 *
 * A request for which no descriptor is left is refused with that reason; everything else
 * continues.
 */
import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { WEFT_V1 } from '../../src/model/kinds/kind.ts';
import { parseResource } from '../../src/model/manifest.ts';
import { run, until } from '../support/process.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const DESCRIPTORS = 96;
const LIMIT = ['prlimit', `--nofile=${DESCRIPTORS}`];

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    const weft = await Weft.up(lab, host, 'a', { datapath, underlay: '127.0.0.1', within: LIMIT });
    const { pid } = weft;
    await weft.createNetwork('blue --subnet 10.44.0.0/24');
    const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
    await weft.attach(web, { network: 'blue', arguments: ['--ip', '10.44.0.11'] });
    await weft.attach(db, { network: 'blue', arguments: ['--ip', '10.44.0.12'] });
    await ping(web, '10.44.0.12');

    await t.test('interfaces beyond them are refused, and leave nothing', async (t) => {
      const tried = Array.from({ length: 40 }, (_, i) => `eth${i + 1}`);
      let attached = 2;
      for (const ifname of tried) {
        const options = { name: ifname, network: 'blue', netns: web.path, ifname };
        const refused: unknown = await weft.client.attach(options).then(
          () => (attached++, undefined),
          (error: unknown) => error,
        );
        if (refused) t.match(refused, { code: 'exhausted', message: /file descriptors.*LimitNOFILE/ }, ifname);
      }
      t.ok(attached < tried.length, `${attached} endpoints`);
      t.equal((await weft.client.endpoints()).length, attached);
      t.equal((await web.links()).length, attached - 1, 'as many interfaces');
      await ping(web, '10.44.0.12');
    });

    await t.test('clients that say nothing keep nobody out', async (t) => {
      const idle: Socket[] = [];
      t.teardown(() => idle.forEach((socket) => socket.destroy()));
      for (let i = 0; i < 80; i++) {
        const socket = connect(weft.socket);
        socket.on('error', () => {});
        await once(socket, 'connect');
        idle.push(socket);
      }
      t.equal((await weft.json('status')).pid, pid);
      await until(() => readdirSync(`/proc/${pid}/fd`).length < DESCRIPTORS - 8, { what: 'some are closed' });
      await weft.run('detach', 'db');
      for (const socket of idle) socket.destroy();
      // Some of them hold descriptors until the daemon has read that they are gone.
      const attach = weft.attach.bind(weft, db, { network: 'blue', arguments: ['--ip', '10.44.0.12'] });
      await until(attach, { what: 'an interface to get a descriptor' });
      await ping(web, '10.44.0.12');
    });
    t.equal(weft.pid, pid, 'it is the same process');
  });
}

for (const datapath of datapathKinds) {
  await t.test(`${datapath}: what a file declares waits for descriptors`, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    const weft = await Weft.up(lab, host, 'a', { datapath });
    const limit = (most: number): Promise<string> => run(['prlimit', '--pid', String(weft.pid), `--nofile=${most}:`]);
    const used = (): number => readdirSync(`/proc/${weft.pid}/fd`).length;
    const [first, ...others] = await lab.namespaces(Array.from({ length: 8 }, (_, n) => `c${n}`));
    await weft.createNetwork('blue --subnet 10.44.0.0/24');
    await weft.attach(first!, { name: 'first', network: 'blue' });

    // Enough for the request, and none for an interface.
    await limit(used() + 4);
    const file = others.map(({ name: netns }, n) =>
      parseResource({
        apiVersion: WEFT_V1,
        kind: 'Endpoint',
        metadata: { name: `c${n}` },
        spec: { network: 'blue', netns },
      }),
    );
    const reports = await weft.client.apply(file);
    t.ok(reports.some(({ waiting }) => /no file descriptors are left to weft: raise/.test(waiting ?? '')));
    t.equal((await weft.client.endpoints()).length, file.length + 1, 'all are declared');
    // Those that are there cannot be looked at, either.
    await limit(used() - 2);
    await until(() => /cannot be entered: no file descriptors are left to weft/.test(weft.log()), {
      what: 'it is told',
    });
    await limit(1024);
    await until(async () => (await weft.client.endpoints()).every(({ state }) => state === 'attached'), {
      what: 'all to be attached',
    });
    await until(async () => Object.keys((await weft.status()).endpointProblems).length === 0, { what: 'no problem' });
  });
}
