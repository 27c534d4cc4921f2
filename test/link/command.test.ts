/** Helper processes: whatever keeps one from starting, or ends it, is reported to the caller, and this process continues. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import t from 'tap';
import { runCommand } from '../../src/link/command.ts';
import { loadRules } from '../../src/link/nft.ts';
import { ownAddresses } from '../../src/link/underlay.ts';

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
