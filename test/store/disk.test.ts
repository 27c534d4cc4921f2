/** The embedded store on a full disk, and on one that cannot be written: on a small tmpfs of its own. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import type { Store } from '../../src/store/store.ts';

const FULL_BYTES = 256 * 1024;

/** A mounted tmpfs of `FULL_BYTES`. */
function smallDisk(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), `weft-disk-${process.pid}-`));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${FULL_BYTES}`, 'weft-test', directory]);
  t.teardown(() => {
    execFileSync('umount', [directory]);
    rmSync(directory, { recursive: true });
  });
  return directory;
}

const open = (directory: string): Promise<Store> =>
  openEmbeddedStore({ directory, onWarning: (message) => t.fail(message), after: () => () => {} });

t.test('when the disk is full nothing is changed; when there is room again, it goes on', async (t) => {
  const disk = smallDisk(t);
  const directory = join(disk, 'state');
  const store = await open(directory);
  await store.transact({ put: [{ key: 'a', value: 1 }] });
  const before = await store.list('');
  const { size } = statSync(join(directory, 'journal'));

  const tooMuch = store.transact({ put: [{ key: 'big', value: 'x'.repeat(2 * FULL_BYTES) }], delete: ['a'] });
  await t.rejects(tooMuch, {
    code: 'system',
    message: new RegExp(`^state directory ${directory} cannot be written.*ENOSPC`),
  });
  t.same(await store.list(''), before);
  t.equal(statSync(join(directory, 'journal')).size, size, 'nor is a part of it left');

  await store.transact({ put: [{ key: 'b', value: 2 }] });
  const filler = join(disk, 'filler');
  t.throws(() => writeFileSync(filler, Buffer.alloc(2 * FULL_BYTES)), { code: 'ENOSPC' });
  await t.rejects(store.transact({ put: [{ key: 'c', value: 'x'.repeat(8192) }] }), { code: 'system' });
  rmSync(filler);
  await store.transact({ put: [{ key: 'c', value: 3 }] });
  await store.close();

  const again = await open(directory);
  t.same(
    (await again.list('')).entries.map(({ key, value }) => [key, value]),
    [
      ['a', 1],
      ['b', 2],
      ['c', 3],
    ],
  );
  await again.close();
});

t.test('a directory that cannot be written is refused before anything else', async (t) => {
  const disk = smallDisk(t);
  const directory = join(disk, 'state');
  const store = await open(directory);
  await store.transact({ put: [{ key: 'a', value: 1 }] });
  await store.close();
  execFileSync('mount', ['-o', 'remount,ro', disk]);
  const refused = (path: string) => ({
    code: 'system',
    message: new RegExp(`^state directory ${path} cannot be used: `),
  });
  for (const path of [directory, join(disk, 'new')]) await t.rejects(open(path), refused(path));
  execFileSync('mount', ['-o', 'remount,rw', disk]);
  const again = await open(directory);
  t.equal((await again.get('a'))?.value, 1, 'and the lock was let go');
  await again.close();
});

t.test('a compaction for which there is no room takes none from what is appended', async (t) => {
  const disk = smallDisk(t);
  execFileSync('mount', ['-o', 'remount,size=4m', disk]);
  const directory = join(disk, 'state');
  const warnings: string[] = [];
  const onWarning = (message: string): number => warnings.push(message);
  const store = await openEmbeddedStore({ directory, onWarning, after: () => () => {} });
  const text = 'x'.repeat(100_000);
  // All of it is in use, so that a compacted journal is as long as this one.
  for (let n = 0; n < 9; n++) await store.transact({ put: [{ key: `kept/${n}`, value: text }] });
  writeFileSync(join(disk, 'filler'), Buffer.alloc((5 << 20) / 2));
  for (let n = 9; warnings.length === 0; n++) await store.transact({ put: [{ key: `kept/${n}`, value: text }] });
  t.match(warnings, [/its journal was not compacted: ENOSPC/]);
  t.notOk(existsSync(join(directory, 'journal.new')));
  await store.transact({ put: [{ key: 'more', value: text }] });
  await store.close();
  const again = await open(directory);
  t.equal((await again.get('more'))?.value, text);
  await again.close();
});
