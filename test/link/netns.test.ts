/** Finding namespaces, and noticing that one is gone. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { NetnsWatcher, type IntervalScheduler } from '../../src/link/netns-watcher.ts';
import { resolveNetns } from '../../src/link/netns.ts';
import { openLab } from '../support/lab.ts';
import { run, until } from '../support/process.ts';

t.test('by name, by path and by process it is the same', async (t) => {
  const box = await openLab(t).namespace('box');
  const inside = box.start(['sleep', '60']);
  const byName = await resolveNetns({ netns: box.name });
  t.equal(byName.path, `/run/netns/${box.name}`);
  const byPath = await resolveNetns({ netns: box.path });
  t.same(byPath, byName);
  await until(async () => (await resolveNetns({ pid: inside.pid })).ino === byName.ino, {
    what: 'the process is inside',
  });
  t.same(await resolveNetns({ pid: inside.pid }), { ...byName, path: `/proc/${inside.pid}/ns/net` });
});

t.test('what is none is refused by name', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weft-netns-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'file');
  writeFileSync(file, '');

  await t.rejects(resolveNetns({ netns: 'no-such-one' }), {
    code: 'not_found',
    message: 'network namespace "no-such-one" does not exist; `ip netns ls` shows those that do',
  });
  await t.rejects(resolveNetns({ netns: '/no/such/path' }), { code: 'not_found' });
  await t.rejects(resolveNetns({ netns: `${file}/below` }), { code: 'not_found' });
  await t.rejects(resolveNetns({ netns: file }), { code: 'invalid', message: /is not a network namespace/ });
  await t.rejects(resolveNetns({ netns: directory }), { code: 'invalid', message: /is not a network namespace/ });
  for (const netns of ['', '.', '..', 'a\0b']) await t.rejects(resolveNetns({ netns }), { code: 'invalid' });
  for (const pid of [0, -1, 1.5, Number.NaN]) await t.rejects(resolveNetns({ pid }), { code: 'invalid' });
  await t.rejects(resolveNetns({ pid: 2 ** 40 }), {
    code: 'not_found',
    message: `process ${2 ** 40} does not exist`,
  });
});

t.test('the namespace that weft runs in is refused', async (t) => {
  await t.rejects(resolveNetns({ pid: process.pid }), { code: 'invalid', message: /that weft itself runs in/ });
  await t.rejects(resolveNetns({ netns: '/proc/self/ns/net' }), {
    code: 'invalid',
    message: /that weft itself runs in/,
  });
});

/** A watcher, and what it has reported. */
function watching(t: Test, schedule: IntervalScheduler): { watcher: NetnsWatcher; gone: string[] } {
  const watcher = new NetnsWatcher(schedule);
  t.teardown(() => watcher.close());
  return { watcher, gone: [] };
}

/** Half of the 500 ms within which a change must be reported; polling itself takes hardly any time. */
const LOOK_MS = 250;

/** An interval that never fires: whatever is reported then came from a directory event. */
const never: IntervalScheduler = () => ({ unref: () => undefined, close: () => undefined });

t.test('a deleted name is noticed by the directory alone, once', async (t) => {
  const lab = openLab(t);
  const [box, other, quiet] = [await lab.namespace('box'), await lab.namespace('other'), await lab.namespace('quiet')];
  const { watcher, gone } = watching(t, never);
  const quietRef = await resolveNetns({ netns: quiet.name });
  watcher.watch(await resolveNetns({ netns: box.name }), () => gone.push('box'));
  watcher.watch(await resolveNetns({ netns: other.name }), () => gone.push('other'));
  watcher.watch(quietRef, () => gone.push('quiet'));
  watcher.unwatch(quietRef);

  await lab.removeNamespace(box);
  await until(() => gone.includes('box'), { what: 'box gone' });
  await lab.removeNamespace(quiet);
  await lab.removeNamespace(other);
  await until(() => gone.includes('other'), { what: 'other gone' });
  t.same(gone, ['box', 'other']);
});

t.test('the end of a process and an unmount are noticed by the interval', async (t) => {
  const lab = openLab(t);
  const box = await lab.namespace('box');
  const inside = lab.start(['unshare', '--net', 'sleep', '60']);
  const pidRef = await until(() => resolveNetns({ pid: inside.pid }), { what: 'a namespace of its own' });
  const periodsMs: number[] = [];
  const { watcher, gone } = watching(t, (look, periodMs) => {
    periodsMs.push(periodMs);
    return setInterval(look, periodMs);
  });
  t.same(periodsMs, [LOOK_MS]);
  watcher.watch(pidRef, () => gone.push('process'));
  watcher.watch(await resolveNetns({ netns: box.name }), () => gone.push('box'));

  await inside.stop('SIGKILL');
  await until(() => gone.length === 1, { what: 'process gone' });

  await run(['umount', box.path]); // the empty file stays
  await until(() => gone.length === 2, { what: 'box gone' });
  t.same(gone, ['process', 'box']);
});

t.test('another namespace under the same name counts as gone', async (t) => {
  const lab = openLab(t);
  const box = await lab.namespace('box');
  const other = await lab.namespace('other');
  const { watcher, gone } = watching(t, setInterval);
  watcher.watch(await resolveNetns({ netns: box.name }), () => gone.push('box'));
  await run(['umount', box.path]);
  await run(['mount', '--bind', other.path, box.path]);
  await until(() => gone.length === 1, { what: 'box gone' });
  t.same(gone, ['box']);
});
