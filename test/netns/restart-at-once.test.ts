/**
 *   weft, 80 interfaces ── kill -9 ── weft up, at once
 *
 * The kernel takes some time to release what a killed daemon had: its socket, its state
 * directory, its interfaces. The next daemon waits for that. One with another state directory does not get the port of the
 * tunnel before the minute is over for which it is kept for the next one with this.
 */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { ping } from '../support/traffic.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const INTERFACES = 80;

await t.test('started again before the kernel is done with the one before', async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const weft = await Weft.up(lab, host, 'a', { datapath: 'native', underlay: '127.0.0.1' });
  await weft.createNetwork('blue --subnet 10.44.0.0/16');
  const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
  await weft.attach(db, { network: 'blue', arguments: ['--ip', '10.44.1.1'] });
  for (let n = 0; n < INTERFACES; n++) {
    await weft.client.attach({ name: `web${n}`, network: 'blue', netns: web.path, ifname: `eth${n}` });
  }
  for (let round = 1; round <= 3; round++) {
    const before = weft.pid;
    process.kill(before, 'SIGKILL');
    await weft.start();
    t.not(weft.pid, before);
    const states = (await weft.client.endpoints()).map(({ state }) => state);
    t.same(new Set(states), new Set(['attached']), `round ${round}: all are attached`);
    t.match(await weft.status(), { tunnel: { open: true } });
    await ping(db, '10.44.0.2');
  }
});

await t.test('one with another state directory says for whom the port is kept', async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const weft = await Weft.up(lab, host, 'a', { datapath: 'native', underlay: '127.0.0.1' });
  await weft.createNetwork('blue --subnet 10.44.0.0/24');
  await weft.attach(await lab.namespace('web'), { network: 'blue' });
  const other = Weft.of(lab, host, 'b', { datapath: 'native', underlay: '127.0.0.1' });
  await other.start();
  t.match((await other.status()).tunnel, {
    open: false,
    why: /^UDP port 4789 is in use by weft with the state directory \S+\/a-state, which runs: stop that one/,
  });
  await other.stop();
  await weft.kill();
  await other.start();
  const { tunnel } = await other.status();
  t.match(tunnel, {
    open: false,
    why: /^UDP port 4789 is kept open for weft with the state directory \S+\/a-state, which was killed: wait/,
  });
  await other.stop();
  await weft.start();
  t.match(await weft.status(), { tunnel: { open: true } }, 'it is released for that one');
});
