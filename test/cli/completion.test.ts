/** `weft completion`: what Tab completes, as the scripts ask for it and in an interactive bash. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { openApi } from '../../src/api/server.ts';
import { kinds } from '../../src/model/kinds/registry.ts';
import { attempt, run } from '../support/process.ts';
import { fakeSwitch } from '../api/fake-switch.ts';

t.setTimeout(300_000);

const executable = fileURLToPath(new URL('../../dist/cli/weft.js', import.meta.url));
const tab = fileURLToPath(new URL('../support/python/tab.py', import.meta.url));

/** A daemon with a network `blue`, on `socket`. */
async function daemon(t: Test): Promise<{ readonly directory: string; readonly socket: string }> {
  const directory = mkdtempSync(join(tmpdir(), `weft-completion-${process.pid}-`));
  const socket = join(directory, 'weft.sock');
  const api = await openApi(socket);
  t.teardown(async () => {
    await api.close(AbortSignal.timeout(20_000));
    rmSync(directory, { recursive: true });
  });
  await api.serve({ sw: fakeSwitch(), isStopping: () => false, shutdown: async () => {} }, (error) =>
    t.fail(String(error)),
  );
  return { directory, socket };
}

/** What the last word can become, without descriptions. */
async function completed(t: Test, ...words: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await attempt([process.execPath, executable, '__complete', ...words]);
  t.same([code, stderr], [0, ''], `${words.join(' ')}: never a failure`);
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split('\t')[0]!);
}

t.test('verbs, options, choices and kinds', async (t) => {
  const help = await run([process.execPath, executable, '--help']);
  const verbs = [...help.matchAll(/^ {2}([a-z][a-z-]*) /gm)].map(([, verb = '']) => verb);
  t.ok(verbs.length > 15);
  t.same((await completed(t, '')).sort(), verbs.sort(), 'all verbs that the help has');
  t.same(await completed(t, 'net'), ['network']);
  t.same(await completed(t, 'network', ''), ['create', 'ls', 'rm']);
  t.same(await completed(t, '--socket', '/tmp/x', 'network', 'c'), ['create'], 'a value of an option is no verb');
  const options = await completed(t, 'attach', 'web', '--network', 'blue', '--');
  for (const option of ['--netns', '--ip', '--label', '--socket', '--output', '--help']) {
    t.ok(options.includes(option), option);
  }
  t.notOk(options.includes('--network'), 'which is given already');
  t.ok((await completed(t, 'attach', '--ip', '10.0.0.1', '--i')).includes('--ip'), 'this can be given again');
  t.same(await completed(t, 'status', '-o', ''), ['table', 'json', 'yaml', 'name', 'wide']);
  t.same(await completed(t, 'status', '--output=j'), ['--output=json']);
  t.same(await completed(t, 'completion', ''), ['bash', 'zsh', 'fish']);
  t.same(
    await completed(t, 'get', ''),
    kinds.map(({ kind }) => kind.toLowerCase()),
  );
  t.same(await completed(t, 'apply', '-f', ''), [':files']);
  t.same(await completed(t, 'nonsense', ''), [], 'nothing where there is nothing');
});

t.test('names come from the daemon, if it answers', async (t) => {
  const { directory, socket } = await daemon(t);
  const here = ['--socket', socket];
  t.same(await completed(t, ...here, 'network', 'rm', ''), ['blue']);
  t.same(await completed(t, ...here, 'attach', 'web', '--network', 'b'), ['blue']);
  t.same(await completed(t, ...here, 'get', 'net', ''), ['blue']);
  t.same(await completed(t, ...here, 'describe', 'Network/'), ['Network/blue']);
  t.same(await completed(t, ...here, 'delete', 'net', 'red', ''), ['blue'], 'one of several');
  t.same(await completed(t, ...here, 'get', 'net/red', 'Network/'), ['Network/blue']);
  t.same(await completed(t, ...here, 'get', 'endpoint', ''), [], 'the daemon refuses this');
  t.same(await completed(t, '--socket', join(directory, 'nobody'), 'network', 'rm', ''), []);
});

t.test('in bash', async (t) => {
  const { directory, socket } = await daemon(t);
  const bin = join(directory, 'bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'weft'), `#!/bin/sh\nexec '${process.execPath}' '${executable}' "$@"\n`);
  chmodSync(join(bin, 'weft'), 0o755);
  writeFileSync(join(directory, 'some-file.yaml'), '');
  const rcfile = join(directory, 'rc');
  writeFileSync(rcfile, `PATH='${bin}':$PATH\ncd '${directory}'\nsource <(weft completion bash)\n`);
  for (const [typed, line] of [
    ['weft netw', 'weft network '],
    ['weft network cr', 'weft network create '],
    ['weft status --output=y', 'weft status --output=yaml '],
    ['weft status --out', 'weft status --output '],
    [`weft --socket ${socket} get net/b`, `weft --socket ${socket} get net/blue `],
    [`weft --socket ${socket} network rm `, `weft --socket ${socket} network rm blue `],
    ['weft apply -f some', 'weft apply -f some-file.yaml '],
    ['weft nonsense x', 'weft nonsense x'],
  ] as const) {
    t.equal(await run(['python3', tab, rcfile, typed]), line, typed);
  }
});

t.test('the script of each shell is one that the shell accepts', async (t) => {
  for (const [shell, check] of [
    ['bash', ['bash', '-n']],
    ['zsh', ['zsh', '-n']],
    ['fish', ['fish', '--no-execute']],
  ] as const) {
    const script = await run([process.execPath, executable, 'completion', shell]);
    t.match(script, /weft.* __complete /s, shell);
    const [command, ...words] = check;
    const child = spawn(command, words, { stdio: ['pipe', 'ignore', 'pipe'] });
    const isThere = await once(child, 'spawn').then(
      () => true,
      () => false,
    );
    if (!isThere) {
      t.not(shell, 'bash', `${shell} is not installed: its script is not checked`);
      continue;
    }
    child.stdin.on('error', () => {}).end(script);
    const [code] = (await once(child, 'close')) as [number];
    t.equal(code, 0, `${shell} parses it`);
  }
  const { code, stderr } = await attempt([process.execPath, executable, 'completion', 'tcsh']);
  t.equal(code, 2);
  t.match(stderr, /tcsh.*bash, zsh, fish/);
});
