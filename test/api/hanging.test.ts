/** A daemon that hangs is told from one whose answer takes long. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Client } from '../../src/api/client.ts';
import { openApi } from '../../src/api/server.ts';
import { fakeSwitch } from './fake-switch.ts';

t.setTimeout(120_000);

const directory = mkdtempSync(join(tmpdir(), `weft-hanging-${process.pid}-`));
t.teardown(() => rmSync(directory, { recursive: true }));

t.test('who asks a daemon that hangs is told so; one that only has no switch yet is waited for', async (t) => {
  const [hangs, starts] = ['hangs.sock', 'starts.sock'].map((name) => join(directory, name)) as [string, string];
  const script = `require('net').createServer(() => {}).listen(${JSON.stringify(hangs)}, () => console.log('listening'))`;
  const hanging = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => hanging.kill('SIGKILL'));
  await once(hanging.stdout, 'data');
  hanging.kill('SIGSTOP');

  const api = await openApi(starts);
  const late = new Client(starts).status();
  const error = {
    code: 'unreachable',
    message: new RegExp(`^the weft daemon on ${hangs} does not answer: see its log`),
  };
  await Promise.all([
    t.rejects(new Client(hangs).status(), error),
    t.rejects(new Client(hangs).wait(60_000), error),
    t.rejects(new Client(hangs).followFlows(new AbortController().signal).next(), error),
  ]);
  await api.serve({ sw: fakeSwitch(), isStopping: () => false, shutdown: async () => {} }, () => {});
  t.equal((await late).host, 'a');
  await api.close(AbortSignal.timeout(20_000));
});
