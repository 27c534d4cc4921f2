/**
 *   manager (as systemd) ── weft ─┬─ web
 *        ▲ descriptors            └─ db
 *
 * weft as a service: it says when it is ready and what it waits for, it is alive while its event loop turns, what it
 * has open is kept for the next process, and a reload is a takeover.
 */
import { join } from 'node:path';
import t from 'tap';
import { Client } from '../../src/api/client.ts';
import { openLab } from '../support/lab.ts';
import { isAlive, until } from '../support/process.ts';
import { overlay } from '../support/topology.ts';
import { ping, python } from '../support/traffic.ts';
import { weftCommand } from '../support/weft.ts';

t.setTimeout(300_000);

/** Of the watchdog, in seconds. */
const SECONDS = 2;

await t.test('weft as a service', async (t) => {
  const lab = openLab(t);
  const [host, web, db] = [await lab.namespace('host'), await lab.namespace('web'), await lab.namespace('db')];
  const socket = join(lab.directory, 'weft.sock');
  const state = join(lab.directory, 'state');
  // An address that this host does not have yet.
  const up = ['--socket', socket, 'up', '--state', state, '--host', 'a', '--underlay', '192.0.2.1'];
  const notify = join(lab.directory, 'notify');
  const manager = host.start(python('manager.py', notify, SECONDS, ...weftCommand, ...up));
  const client = new Client(socket);
  const main = async (): Promise<number> => (await client.status()).pid;
  const lines = (): string[] => manager.lines.map(({ text }) => text);
  const kept = async (): Promise<string[]> => {
    const before = lines().length;
    manager.write('kept\n');
    return until(
      () =>
        lines()
          .slice(before)
          .find((line) => line.startsWith('kept')),
      { what: 'what is kept' },
    ).then((line) => line.split(' ').slice(1));
  };
  const isReady = (pid: number) => (line: string) => line.startsWith(`${pid} READY=1`);
  const carrier = (): Promise<string> => web.run(['cat', '/sys/class/net/eth0/carrier']).then((text) => text.trim());
  const passes = (): Promise<unknown> => ping(web, '10.44.0.12');

  await t.test('it is ready although its underlay is late, and says so', async (t) => {
    const ready = await until(() => lines().find((line) => line.includes('READY=1')), { what: 'READY=1' });
    t.match(ready, /STATUS=forwarding between 0 endpoints; waiting: 192\.0\.2\.1 is not an address of this host/);
    t.match(ready, new RegExp(`^${await main()} `));
    await until(() => lines().some((line) => line.includes('WATCHDOG=1')), { what: 'WATCHDOG=1' });
  });

  await client.createNetwork(overlay.network, { subnets: ['10.44.0.0/24'], mtu: 1400 });
  await client.attach({ name: 'web', network: overlay.network, netns: web.path, ip: ['10.44.0.11'] });
  await client.attach({ name: 'db', network: overlay.network, netns: db.path, ip: ['10.44.0.12'] });
  await passes();

  await t.test('what it has open is kept, as long as it has it', async (t) => {
    t.equal((await kept()).filter((name) => name.startsWith('tap-')).length % 2, 0);
    const before = await kept();
    t.ok(before.length >= 2, before.join(' '));
    await client.attach({ name: 'other', network: overlay.network, netns: web.path, ifname: 'eth1' });
    t.ok((await kept()).length > before.length);
    await client.detach('other');
    t.same(await kept(), before);
    t.same(await web.links(), ['eth0'], 'and nothing is left where it was');
    await lab.cable(host, 'under0', db, 'under1');
    await host.ip('address add 192.0.2.1/24 dev under0');
    await until(async () => (await kept()).some((name) => name.startsWith('vxlan-192.0.2.1-4789_')), {
      what: 'sockets',
    });
  });

  await t.test('a killed daemon leaves them to the next one', async (t) => {
    const before = await kept();
    const pid = await main();
    manager.write('kill\n');
    await until(() => lines().includes(`ended ${pid} main`), { what: 'its end' });
    t.equal(await carrier(), '1', 'the interface keeps its carrier');
    manager.write('start\n');
    const now = await until(main, { what: 'the next daemon' });
    await until(() => lines().some(isReady(now)), { what: 'READY=1' });
    await passes();
    t.same(await kept(), before, 'the same are kept');
  });

  await t.test('a reload is a takeover by another process', async (t) => {
    const [before, pid] = [await kept(), await main()];
    manager.write('reload\nreload\n');
    await until(() => lines().includes(`ended ${pid} other`), {
      what: 'the end of the old one, which is not the main one',
    });
    const now = await main();
    t.not(now, pid);
    t.ok(
      lines().some((line) => line === `${pid} MAINPID=${now}`),
      'the old one has said so',
    );
    t.equal(
      lines().filter((line) => line.startsWith(`${pid} RELOADING=1`)).length,
      1,
      'it is told twice, and does it once',
    );
    await until(() => lines().some(isReady(now)), { what: 'READY=1' });
    await passes();
    t.same(await kept(), before, 'the same are kept');
    await until(() => lines().some((line) => line.startsWith(`${now} WATCHDOG=1`)), { what: 'it is alive' });
  });

  await t.test('a daemon that stands still is told of', async (t) => {
    const pid = await main();
    process.kill(pid, 'SIGSTOP');
    await until(() => lines().includes(`silent ${pid}`), { what: 'its silence' });
    process.kill(pid, 'SIGCONT');
    await passes();
    t.ok(isAlive(pid));
  });

  await t.test('it says that it stops', async (t) => {
    const pid = await main();
    manager.write('stop\n');
    await until(() => lines().includes(`ended ${pid} main`), { what: 'its end' });
    t.ok(lines().includes(`${pid} STOPPING=1`));
    manager.write('start\n');
    await until(main, { what: 'the next daemon' });
    await client.shutdown({ purge: true });
    t.same(await web.links(), [], 'what is purged is kept by nobody');
  });
});
