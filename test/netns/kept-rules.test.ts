/**
 * The rules of the host after kill -9: a start leaves them alone if nobody has changed any rule of the host since, otherwise loads
 * those that were loaded last while it reads what is declared; and in force are those of today, whatever was kept.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { outsideHost } from '../support/topology.ts';

t.setTimeout(600_000);

/** The kernel numbers the tables of a namespace as they are loaded. */
const TABLE = ['nft', '-a', 'list', 'table', 'inet', 'weft'];
const numberOf = (table: string): number => Number(/^table inet weft .*# handle (\d+)/.exec(table)![1]);
/** What is published, as the kernel lists it in a set. */
const PUBLISHED = 'tcp . 7100';
/** With what is known of its rules in the kernel, and without. */
const IN_FORCE = /^# generation .*\n/;
const textOf = (kept: string): string => kept.replace(IN_FORCE, '');

await t.test('the rules of a start after a crash', async (t) => {
  const { host, weft } = await outsideHost(openLab(t), 'native', ['7100:7100']);
  const file = join(weft.state, 'rules');
  const isKept = (): boolean => existsSync(file) && IN_FORCE.test(readFileSync(file, 'utf8'));
  await until(isKept, { what: 'the rules are kept' });
  t.equal(statSync(file).mode & 0o777, 0o600);
  const kept = textOf(readFileSync(file, 'utf8'));
  /** Kills weft, has `meanwhile` happen, and starts it. @returns the table after that */
  const crash = async (meanwhile: () => unknown): Promise<string> => {
    await weft.kill();
    await meanwhile();
    await weft.start();
    t.notMatch(weft.log(), /"level":"(?:warn|error)"/);
    return host.run(TABLE);
  };
  const cases: Readonly<Record<string, { meanwhile: () => unknown; tables: number }>> = {
    'nothing has happened': { meanwhile: () => {}, tables: 0 },
    // That one has a number, too.
    'somebody has added a table': { meanwhile: () => host.run(['nft', 'add', 'table', 'inet', 'other']), tables: 2 },
    'somebody has flushed the table': {
      meanwhile: () => host.run(['nft', 'flush', 'table', 'inet', 'weft']),
      tables: 1,
    },
    // One more: it is added if it does not exist, so that it can be deleted.
    'somebody has flushed the rules': { meanwhile: () => host.run(['nft', 'flush', 'ruleset']), tables: 2 },
    'what was kept is another table': {
      meanwhile: () => writeFileSync(file, readFileSync(file, 'utf8').replaceAll('7100', '7200')),
      tables: 1,
    },
    'what was kept is another table, and somebody has added one': {
      meanwhile: async () => {
        writeFileSync(file, readFileSync(file, 'utf8').replaceAll('7100', '7200'));
        await host.run(['nft', 'add', 'table', 'inet', 'another']);
      },
      tables: 3,
    },
    'what was kept is no table': { meanwhile: () => writeFileSync(file, 'table {'), tables: 1 },
    'nothing was kept': { meanwhile: () => rmSync(file), tables: 1 },
  };
  let before = numberOf(await host.run(TABLE));
  for (const [what, { meanwhile, tables }] of Object.entries(cases)) {
    const table = await crash(meanwhile);
    t.equal(numberOf(table) - before, tables, `${what}: loaded as often as needed`);
    before = numberOf(table);
    t.match(table, PUBLISHED, `${what}: published`);
    t.notMatch(table, '7200', `${what}: nothing else is`);
    await until(() => isKept() && textOf(readFileSync(file, 'utf8')) === kept, {
      what: `${what}: they are kept again`,
    });
  }

  const table = await crash(() => {
    rmSync(file);
    mkdirSync(file);
  });
  t.match(table, PUBLISHED, 'the outside does not depend on a file that can be neither written nor removed');
  rmSync(file, { recursive: true });

  await weft.run('detach', 'web');
  await weft.run('detach', 'db');
  await weft.run('delete', 'network', 'blue');
  t.notOk(existsSync(file), 'without an outside, nothing is kept');
});
