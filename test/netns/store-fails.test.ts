/**
 *   web ── weft ── db
 *            │ journal: may not grow (RLIMIT_FSIZE)
 *
 * Changes that cannot be stored are refused or retried; nothing false is reported, and no address is lost.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { run, until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

await t.test('the store cannot be written', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const [web, db, more] = [await lab.namespace('web'), await lab.namespace('db'), await lab.namespace('more')];
  const weft = await Weft.up(lab, host, 'a', { datapath: 'native' });
  const journal = join(weft.state, 'journal');
  const limit = (bytes: string): Promise<string> => run(['prlimit', '--pid', String(weft.pid), `--fsize=${bytes}`]);
  const states = async (): Promise<string[]> =>
    (await weft.client.endpoints()).map(({ name, state }) => `${name} ${state}`);
  const refused = async (...words: readonly string[]): Promise<void> => {
    const { code, stderr } = await weft.attempt(...words);
    t.equal(code, 1, words.join(' '));
    t.match(stderr, /^weft: state directory .* cannot be written: EFBIG.*\n$/);
  };

  // Enough addresses for three.
  await weft.createNetwork('blue --subnet 10.44.0.0/24 --range 10.44.0.11-10.44.0.13');
  await weft.run(...'network create red --subnet 10.45.0.0/24'.split(' '));
  await weft.attach(web, { name: 'web', network: 'blue' });
  await weft.attach(db, { name: 'db', network: 'blue' });
  await limit(`${statSync(journal).size}:unlimited`);

  for (let n = 0; n < 4; n++) await refused('attach', `more-${n}`, '--network', 'blue', '--netns', more.name);
  t.same(await more.links(), [], 'nothing is left');
  await refused('detach', 'db');
  t.same(await db.links(), ['eth0'], 'it is as it was');
  t.same(await states(), ['db attached', 'web attached'], 'and that is told');
  await refused('network', 'rm', 'red');
  await lab.removeNamespace(web);
  await until(async () => (await states()).join() === 'db attached,web detached', {
    what: 'the end of web to be told',
  });

  await limit('unlimited');
  await until(async () => (await states()).join() === 'db attached', { what: 'the lease of web to end' });
  t.equal((await weft.attach(more, { name: 'more', network: 'blue' })).addresses[0], '10.44.0.13', 'none was lost');
  await weft.run('detach', 'db');
  await weft.kill();

  // A container ends while there is no daemon, and the next daemon cannot store that.
  await lab.removeNamespace(more);
  const within = ['prlimit', `--fsize=${statSync(journal).size}:unlimited`];
  const again = await Weft.up(lab, host, 'a', { datapath: 'native', within });
  t.same(
    (await again.client.endpoints()).map(({ name, state }) => `${name} ${state}`),
    ['more detached'],
  );
  await run(['prlimit', '--pid', String(again.pid), '--fsize=unlimited']);
  await until(async () => (await again.client.endpoints()).length === 0, { what: 'its lease to end' });
});
