/**
 *   web ──┐
 *   db  ──┼── weft          /etc/netns/NAME/resolv.conf of each
 *   own ──┘
 *
 * The file that an attached namespace gets is there as long as weft answers: it goes when the endpoint is detached and when
 * weft stops, also if it was written by a daemon that was killed. Others' files stay as they are.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const OTHERS = 'nameserver 192.0.2.9\n';
const DIRECTORY = '/etc/netns';

await t.test('resolv.conf of attached namespaces', async (t) => {
  const lab = openLab(t);
  // The datapath has no part in it.
  const weft = await Weft.up(lab, await lab.namespace('host'), 'host', { datapath: 'native' });
  await weft.createNetwork('blue --subnet 10.44.0.0/24');
  const [web, db, own] = [await lab.namespace('web'), await lab.namespace('db'), await lab.namespace('own')];
  const fileOf = ({ name }: { name: string }): string => `${DIRECTORY}/${name}/resolv.conf`;
  mkdirSync(`${DIRECTORY}/${own.name}`, { recursive: true });
  writeFileSync(fileOf(own), OTHERS);
  // Only the file is weft's.
  mkdirSync(`${DIRECTORY}/${db.name}`, { recursive: true });
  writeFileSync(`${DIRECTORY}/${db.name}/hosts`, '127.0.0.1 localhost\n');
  const areWritten = async (): Promise<void> =>
    until(() => [web, db].every((one) => existsSync(fileOf(one))), { what: 'both are written' }).then(() => {});
  const areAsBefore = (when: string): void => {
    t.notOk(existsSync(`${DIRECTORY}/${web.name}`), `${when}: no directory is left`);
    t.same(readdirSync(`${DIRECTORY}/${db.name}`), ['hosts'], `${when}: only what was there`);
    t.equal(readFileSync(fileOf(own), 'utf8'), OTHERS, `${when}: that of somebody else`);
  };

  for (const [name, namespace] of Object.entries({ web, db, own })) {
    await weft.attach(namespace, { name, network: 'blue' });
  }
  await areWritten();
  await weft.run('down');
  await weft.ended();
  areAsBefore('after down');

  await weft.start();
  await areWritten();
  await weft.stop();
  areAsBefore('after SIGTERM');

  await weft.start();
  await areWritten();
  await weft.kill();
  t.ok(existsSync(fileOf(web)), 'a daemon that is killed removes nothing');
  await weft.start();
  await weft.run('down');
  await weft.ended();
  areAsBefore('after kill -9, and a later down');

  await weft.start();
  await areWritten();
  await weft.takeOver();
  t.ok(existsSync(fileOf(web)) && existsSync(fileOf(db)), 'they stay when another daemon takes over');
  rmSync(fileOf(db));
  writeFileSync(fileOf(db), OTHERS);
  await weft.run('detach', 'web');
  await until(() => !existsSync(`${DIRECTORY}/${web.name}`), { what: 'nothing is left after detach' });
  await weft.run('down', '--purge');
  await weft.ended();
  t.equal(readFileSync(fileOf(db), 'utf8'), OTHERS, 'one that somebody has put in its place');
  t.equal(readFileSync(fileOf(own), 'utf8'), OTHERS);
});
