/**
 *   web ── weft ── db ✗        the namespace of db is deleted
 *
 * A container that goes is detached by itself, and nothing in weft keeps its namespace alive.
 * (How soon weft notices: `test/link/netns.test.ts`.)
 */
import { existsSync, readlinkSync, statSync } from 'node:fs';
import t from 'tap';
import { namespaceHolders, openLab, type Lab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { oneHost, overlay } from '../support/topology.ts';
import { isUnreachable, ping } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

/** Makes namespaces until one has that number, which a kernel may give to the next one. @returns false if none gets it */
async function hasNumber(lab: Lab, number: number): Promise<boolean> {
  for (let turn = 0; turn < 20; turn++) {
    const [other] = await lab.namespaces([`other${turn}`]);
    if (statSync(other!.path).ino === number) return true;
  }
  return false;
}

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const { weft, web, db } = await oneHost(lab, datapath);
    await ping(web.namespace, db.ip4);
    const names = async (): Promise<string[]> => (await weft.client.endpoints()).map(({ name }) => name);

    await t.test('by name: it is detached and the namespace is gone', async (t) => {
      const inode = `net:[${statSync(db.namespace.path).ino}]`;
      await lab.removeNamespace(db.namespace);
      await until(async () => !(await names()).includes('db'), { what: 'db detached' });
      await until(() => namespaceHolders(inode).length === 0, { what: 'nobody holds the namespace' });
      t.notOk(
        (await weft.status()).ports.some(({ name }) => name === 'db'),
        'its port is gone',
      );
      t.ok(await isUnreachable(web.namespace, db.ip4));
    });

    await t.test('its address is free for the next', async () => {
      const next = await lab.namespace('next');
      await weft.attach(next, { network: overlay.network, arguments: ['--ip', db.ip4, '--ip', db.ip6] });
      await ping(web.namespace, db.ip4);
    });

    await t.test('of a process: it is detached when the process ends', async (t) => {
      const container = lab.start(['unshare', '--net', 'sleep', '1000']);
      const inode = await until(
        () => {
          const { ino } = statSync(`/proc/${container.pid}/ns/net`);
          return ino === statSync('/proc/self/ns/net').ino ? undefined : ino;
        },
        { what: 'a namespace of its own' },
      );
      await weft.run(
        'attach',
        'process',
        '--network',
        overlay.network,
        '--pid',
        String(container.pid),
        '--ip',
        '10.44.0.77',
      );
      t.ok((await names()).includes('process'));
      await container.stop('SIGKILL');
      await until(async () => !(await names()).includes('process'), { what: 'the process detached' });
      await until(() => namespaceHolders(`net:[${inode}]`).length === 0, { what: 'nobody holds the namespace' });
    });

    await t.test('only its name, and its interface, while weft is down: it keeps its addresses', async (t) => {
      const moved = await lab.namespace('moved');
      await weft.attach(moved, { network: overlay.network, name: 'moved', arguments: ['--ip', '10.44.0.78'] });
      const container = moved.start(['sleep', '1000']);
      const isInside = () => readlinkSync(`/proc/${container.pid}/ns/net`) === `net:[${statSync(moved.path).ino}]`;
      await until(isInside, { what: 'a process in the namespace' });
      await weft.stop();
      await moved.ip('link delete eth0');
      await lab.removeNamespace(moved);
      await weft.start();
      const found = async () => (await weft.client.endpoints()).find(({ name }) => name === 'moved');
      t.match(await found(), { state: 'detached', addresses: ['10.44.0.78'] });
      await weft.client.detach('moved');
      await container.stop('SIGKILL');
    });

    await t.test('while weft is down: it is released at the next start', async (t) => {
      const number = statSync(web.namespace.path).ino;
      const inode = `net:[${number}]`;
      await weft.stop();
      await lab.removeNamespace(web.namespace);
      t.comment(`another namespace has its number: ${await hasNumber(lab, number)}`);
      await weft.start();
      let seen: unknown;
      const isReleased = async (): Promise<boolean> => {
        const endpoints = await weft.client.endpoints();
        seen = endpoints.map(({ name, state, netns, interface: of }) => ({ name, state, netns, interface: of }));
        return endpoints.map(({ name }) => name).join() === 'next';
      };
      await until(isReleased, { what: 'only the other one to be left' }).catch(async (error: Error) => {
        t.comment({ seen, inode, holders: namespaceHolders(inode), isPathThere: existsSync(web.namespace.path) });
        t.comment(await weft.run('status', '-o', 'json'));
        t.comment(weft.log());
        throw error;
      });
    });
  });
}
