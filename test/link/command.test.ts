/** Helper processes: whatever keeps one from starting, or ends it, is reported to the caller, and this process continues. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadAddon } from '../../src/addon/addon.ts';
import { errnoName } from '../../src/addon/io-error.ts';
import { runCommand } from '../../src/link/command.ts';
import { loadRules } from '../../src/link/nft.ts';
import { ownAddresses } from '../../src/link/underlay.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';

const missing = 'it is not installed';

t.test('input, output and exit code', async (t) => {
  const script = 'read line; echo "got $line"; echo worse >&2; exit 3';
  t.same(await runCommand('sh', ['-c', script], { input: 'text\n', missing }), {
    exitCode: 3,
    stdout: 'got text\n',
    stderr: 'worse\n',
  });
  const unread = 'x'.repeat(1 << 20);
  t.match(await runCommand('true', [], { input: unread, missing }), { exitCode: 0 }, 'it need not read its input');
});

t.test('what cannot be started or is killed', async (t) => {
  await t.rejects(runCommand('weft-no-such-program', [], { missing }), { code: 'system', message: missing });
  await t.rejects(runCommand('sh', ['-c', 'kill -9 $$'], { missing }), { code: 'system', message: /was killed/ });
});

t.test('programs that take long hold up no files', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), `weft-command-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const pipe = join(directory, 'pipe');
  execFileSync('mkfifo', [pipe]);
  // Whoever reads it waits until nobody has it open who could write to it.
  const writer = openSync(pipe, constants.O_RDWR);
  const script = 'exec 3<"$1"; : >"$1-$2"; cat <&3';
  const count = 8;
  const all = Array.from({ length: count }, (_, n) =>
    runCommand('sh', ['-c', script, 'sh', pipe, String(n)], { missing }),
  );
  try {
    t.match(await readFile('/proc/self/stat', 'utf8'), String(process.pid), 'a file is read meanwhile');
    await until(() => readdirSync(directory).length === 1 + count, { what: 'all to run at once' });
  } finally {
    closeSync(writer);
  }
  for (const { exitCode } of await Promise.all(all)) t.equal(exitCode, 0);
  const many = await Promise.all(Array.from({ length: 100 }, () => runCommand('true', [], { missing })));
  t.ok(
    many.every(({ exitCode }) => exitCode === 0),
    'very many wait for their turn',
  );
  t.same(zombies(), []);
});

t.test('one that does not end, or writes without end, is killed, and reaped', async (t) => {
  const addon = loadAddon();
  const path = process.env['PATH']!;
  const late = await addon.runCommand(['sleep', '600'], path, '', -1, 50);
  t.equal(errnoName(-late.result), 'ETIMEDOUT');
  t.same(zombies(), []);
  await t.rejects(runCommand('cat', ['/dev/zero'], { missing }), { code: 'system', message: '`cat` wrote too much' });
  t.same(zombies(), []);
});

/** Children of this process that have ended and that nobody has waited for. A thread that ends leaves its own to the first one. */
function zombies(): string[] {
  const children = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8').split(' ').filter(Boolean);
  return children.filter((pid) => / Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8')));
}

t.test('it runs in the network namespace of a descriptor, and nothing else does', { skip: needsRoot }, async (t) => {
  const addon = loadAddon();
  const netns = addon.createNetns();
  t.ok(netns >= 0);
  try {
    const links = async (of?: { readonly netns: number }) =>
      (await runCommand('ip', ['-o', 'link'], { ...of, missing })).stdout.trim().split('\n').length;
    const before = await links();
    const counts = await Promise.all([links({ netns }), links(), links({ netns })]);
    t.same(counts, [1, before, 1]);
    const file = openSync('/dev/null', 'r');
    await t.rejects(runCommand('true', [], { netns: file, missing }), { code: 'system', message: /EINVAL/ });
    closeSync(file);
  } finally {
    closeSync(netns);
  }
});

t.test('a program has its own input and output, and not those of others that run', async (t) => {
  const list = () => runCommand('sh', ['-c', 'ls -l /proc/$$/fd'], { missing });
  for (const { stdout } of await Promise.all(Array.from({ length: 16 }, list)))
    t.equal(stdout.match(/memfd:/g)?.length, 3);
});

t.test('without descriptors', async (t) => {
  const pid = String(process.pid);
  const limits = (value: string): Buffer => execFileSync('prlimit', ['--pid', pid, `--nofile=${value}`]);
  const [soft = ''] = execFileSync('prlimit', ['--pid', pid, '--nofile', '--raw', '--noheadings', '-o', 'SOFT'])
    .toString()
    .trim()
    .split(/\s+/);
  limits('128:');
  const open: number[] = [];
  try {
    for (;;) open.push(openSync('/dev/null', 'r'));
  } catch (error) {
    t.match(error, { code: 'EMFILE' });
  }
  const refused = { code: 'exhausted', message: /LimitNOFILE/ };
  try {
    for (let left = 0; left <= 8; left++) {
      // With some descriptors left, a child fails at another place.
      const outcome = await runCommand('true', [], { missing }).catch((error: unknown) => error);
      if (!(outcome instanceof Error)) t.comment(`${left} free descriptors are enough`);
      else t.match(outcome, refused, `${left} free descriptors`);
      closeSync(open.pop()!);
    }
    try {
      for (;;) open.push(openSync('/dev/null', 'r'));
    } catch (error) {
      t.match(error, { code: 'EMFILE' });
    }
    await t.rejects(loadRules(''), refused);
    await t.rejects(ownAddresses(), refused);
  } finally {
    for (const fd of open) closeSync(fd);
    limits(`${soft}:`);
  }
  t.match(await runCommand('true', [], { missing }), { exitCode: 0 }, 'with descriptors it goes on');
});
