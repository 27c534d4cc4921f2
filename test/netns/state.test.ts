/**
 *   weft up ── stop or kill ── weft up        on the same state directory
 *
 * Everything that was created is still there, whatever ended the daemon. A state that cannot be
 * trusted is refused, and not modified.
 */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { attempt } from '../support/process.ts';
import { oneHost, overlay } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds, type Weft } from '../support/weft.ts';

t.setTimeout(600_000);

/** Networks, endpoints and free addresses: everything that must survive. */
async function inventory(weft: Weft): Promise<unknown> {
  return { networks: await weft.json('network', 'ls'), endpoints: await weft.json('endpoints') };
}

function filesIn(directory: string): Record<string, string> {
  const files = readdirSync(directory).filter((name) => statSync(join(directory, name)).isFile());
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(directory, name), 'latin1')]));
}

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const { weft, web, db } = await oneHost(lab, datapath);
    await weft.createNetwork('green --subnet 10.45.0.0/24');
    const chosen = await weft.attach(await lab.namespace('chosen'), {
      network: 'green',
      arguments: ['--label', 'app=x'],
    });

    await t.test('networks, endpoints and leases survive SIGTERM', async (t) => {
      const before = await inventory(weft);
      await weft.stop();
      await weft.start();
      t.same(await inventory(weft), before);
      await ping(web.namespace, db.ip4);
      await ping(web.namespace, db.ip6);
    });

    await t.test('and kill -9, right after the command returned', async (t) => {
      const late = await lab.namespace('late');
      await weft.attach(late, { network: overlay.network });
      const killed = weft.kill();
      await killed;
      await weft.start();
      const endpoints = await weft.json('endpoints');
      t.same(
        endpoints.map(({ name, state }) => `${name} ${state}`),
        ['chosen attached', 'db attached', 'late attached', 'web attached'],
      );
      const [ip4 = ''] = endpoints.find(({ name }) => name === 'late')?.addresses ?? [];
      await ping(web.namespace, ip4);

      const taken = await weft.attempt(
        'attach',
        'again',
        '--network',
        'green',
        '--netns',
        late.name,
        '--ifname',
        'eth1',
        '--ip',
        chosen.addresses[0] ?? '',
      );
      t.equal(taken.code, 1, 'a lease of before is still a lease');
      t.match(taken.stderr, /chosen/);
    });

    await t.test('a second daemon is refused: on the same socket, and on the same state', async (t) => {
      const before = await inventory(weft);
      const command = weft.upCommand();
      const otherSocket = command.map((word) => (word === weft.socket ? `${weft.socket}.other` : word));
      const otherState = command.map((word) => (word === weft.state ? `${weft.state}-other` : word));
      for (const [refused, what] of [
        [otherState, weft.socket],
        [otherSocket, weft.state],
      ] as const) {
        const { code, stderr } = await attempt(refused);
        t.equal(code, 1);
        t.match(stderr, what, `names ${what}`);
        t.equal(stderr.trim().split('\n').length, 1, 'in one line');
      }
      t.same(await inventory(weft), before, 'the first goes on');
      await ping(web.namespace, db.ip4);
    });

    await t.test('a damaged state directory is refused and not touched', async (t) => {
      await weft.stop();
      const healthy = filesIn(weft.state);
      t.ok(Object.keys(healthy).length > 0);
      for (const name of Object.keys(healthy))
        writeFileSync(join(weft.state, name), '\u0000 not what weft wrote \u0000'.repeat(20));
      const damaged = filesIn(weft.state);
      const { code, stderr } = await attempt(weft.upCommand());
      t.equal(code, 1);
      t.equal(stderr.trim().split('\n').length, 1, stderr);
      t.match(stderr, weft.state, 'names the directory');
      t.same(filesIn(weft.state), damaged, 'nothing is repaired, overwritten or thrown away');

      for (const [name, text] of Object.entries(healthy)) writeFileSync(join(weft.state, name), text, 'latin1');
      await weft.start();
      t.equal((await weft.json('endpoints')).length, 4, 'and with the old files all is back');
      await ping(web.namespace, db.ip4);
    });
  });
}
