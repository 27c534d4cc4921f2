/** The file that connections are kept in. */
import { chmodSync, linkSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { connectionMemory } from '../../src/addon/connection-memory.ts';
import { CONNECTION_BYTES } from '../../src/flow/connection.ts';

t.test('what is written outlives who wrote it, and room is added behind', async (t) => {
  const path = join(t.testdir(), 'connections');
  connectionMemory(path, 2).set([1, 2, 3], CONNECTION_BYTES);
  const again = connectionMemory(path, 4);
  t.equal(again.length, 4 * CONNECTION_BYTES);
  t.same([...again.subarray(CONNECTION_BYTES, CONNECTION_BYTES + 4)], [1, 2, 3, 0]);
  const { mode, blocks } = statSync(path);
  t.equal(mode & 0o777, 0o600);
  t.ok(blocks * 512 >= 4 * CONNECTION_BYTES, 'its room is taken now, not when it is written to');
});

t.test('a file that somebody else can have a hand in is refused', async (t) => {
  const dir = t.testdir();
  const refused = (name: string, code: string) =>
    t.throws(() => connectionMemory(join(dir, name), 1), {
      code: 'system',
      message: `connections cannot be kept in ${join(dir, name)} (${code})`,
    });
  writeFileSync(join(dir, 'shared'), 'as it was');
  chmodSync(join(dir, 'shared'), 0o660);
  refused('shared', 'EPERM');
  writeFileSync(join(dir, 'own'), 'as it was', { mode: 0o600 });
  linkSync(join(dir, 'own'), join(dir, 'linked'));
  refused('linked', 'EPERM');
  symlinkSync(join(dir, 'nowhere'), join(dir, 'symlink'));
  refused('symlink', 'ELOOP');
  t.equal(statSync(join(dir, 'shared')).size, 'as it was'.length, 'and left as it was');
});
