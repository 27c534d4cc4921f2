/** A daemon of another version: what it does not tell is left out, and one line says what to do. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { BUILD_HEADER } from '../../src/api/target.ts';
import { build, version } from '../../src/package.ts';
import { attempt, type Result } from '../support/process.ts';
import { fakeSwitch } from '../api/fake-switch.ts';

t.setTimeout(120_000);

const executable = fileURLToPath(new URL('../../dist/cli/weft.js', import.meta.url));

/** Answers as a daemon of this version does, without the parts of the status in `without`. */
async function older(t: Test, its: string | undefined, without: readonly string[]) {
  const directory = mkdtempSync(join(tmpdir(), `weft-other-${process.pid}-`));
  const socket = join(directory, 'weft.sock');
  const left = Object.entries(fakeSwitch().status()).filter(([part]) => !without.includes(part));
  const server = createServer((request, response) => {
    if (its !== undefined) response.setHeader(BUILD_HEADER, its);
    const path = request.url!;
    if (path.startsWith('/v1/status')) return response.end(JSON.stringify(Object.fromEntries(left)));
    if (path.startsWith('/v1/endpoints')) return response.end(JSON.stringify([{ name: 'web' }]));
    const error = { code: 'not_found', message: `GET ${path} is not part of the API` };
    return response.writeHead(404).end(JSON.stringify({ error }));
  });
  server.listen(socket);
  await once(server, 'listening');
  t.teardown(async () => {
    server.close();
    await once(server, 'close');
    rmSync(directory, { recursive: true });
  });
  return (...words: string[]): Promise<Result> => attempt([process.execPath, executable, '--socket', socket, ...words]);
}

t.test('the status of an older daemon', async (t) => {
  const without = ['refusedRecords', 'decisions', 'memory', 'connections', 'pathMtus', 'clashes', 'endpointProblems'];
  const weft = await older(t, undefined, without);
  const { code, stdout, stderr } = await weft('status');
  t.equal(code, 0);
  t.match(stdout, /^Host: +a$/m);
  t.match(stdout, /^Datapath: +/m, 'what it tells is shown');
  t.match(stdout, /^PORT +NAME/m);
  t.notMatch(stdout, /Decisions|Memory|Connections|undefined/);
  t.equal(
    stderr,
    `note: the daemon is an older build, and this command is version ${version}: restart the daemon with \`weft up --takeover\` and its other options, or with \`weft down\` and \`weft up\` (containers keep their interfaces)\n`,
  );
  t.same((await weft('status', '-o', 'json')).code, 0);
});

t.test('other verbs', async (t) => {
  const weft = await older(t, '9.9.9+x', []);
  const line = `weft: the daemon is version 9.9.9, and this command is version ${version}: restart the daemon`;
  for (const words of [['endpoints'], ['connections'], ['drops', '--follow'], ['metrics']]) {
    const { code, stderr } = await weft(...words);
    t.equal(code, 1, words.join(' '));
    t.ok(stderr.startsWith(line) && stderr.split('\n').length === 2, stderr);
  }
});

t.test('another build of the same version', async (t) => {
  const weft = await older(t, `${version}+x`, ['decisions']);
  const { code, stderr } = await weft('status');
  t.equal(code, 0);
  t.match(stderr, `note: the daemon is another build of version ${version}, and this command is version ${version}: `);
});

t.test('a daemon of the same build that leaves something out has a defect, which is not hidden', async (t) => {
  const weft = await older(t, build, ['decisions']);
  const { code, stderr } = await weft('status');
  t.equal(code, 1);
  t.match(stderr, /internal error: TypeError/);
});
