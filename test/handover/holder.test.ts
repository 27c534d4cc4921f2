/** The holder and the daemon's side of it: what is put there comes back, to whoever finds it, and nothing stays open. */
import { once } from 'node:events';
import {
  closeSync,
  fstatSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { connectPackets, duplicate } from '../../src/addon/passing.ts';
import { closeAll, type Named } from '../../src/handover/descriptors.ts';
import { Holder } from '../../src/handover/holder.ts';
import { claimSocket } from '../../src/http/socket.ts';
import { openDescriptors } from '../support/descriptors.ts';
import { isAlive, until } from '../support/process.ts';

t.setTimeout(120_000);

/** A directory whose path is too long for a socket. */
function longDirectory(t: Test): string {
  const top = mkdtempSync(join(tmpdir(), 'weft-holder-'));
  const directory = join(top, 'a'.repeat(100));
  mkdirSync(directory);
  t.teardown(() => {
    for (const pid of holdersOf(directory)) process.kill(pid, 'SIGKILL');
    rmSync(top, { recursive: true });
  });
  return directory;
}

function holdersOf(directory: string): number[] {
  return readdirSync('/proc').flatMap((entry) => {
    try {
      return /^\d+$/.test(entry) && readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0')[1] === directory
        ? [Number(entry)]
        : [];
    } catch {
      return [];
    }
  });
}

/** Inodes of what was held, by name, which also closes it. */
function inodesOf(held: readonly Named[]): Record<string, number[]> {
  const all = held.map(({ name, descriptors }) => [name, descriptors.map((one) => fstatSync(one).ino)] as const);
  for (const { descriptors } of held) closeAll(descriptors);
  return Object.fromEntries(all);
}

await t.test('what is put there is found by the next one', async (t) => {
  const directory = longDirectory(t);
  t.equal(Holder.find(directory), undefined, 'there is none yet');
  const files = ['/dev/null', '/dev/zero'].map((name) => openSync(name, 'r'));
  const [a = 0, b = 0] = files.map((file) => fstatSync(file).ino);
  const before = openDescriptors();

  const first = Holder.start(directory);
  first.put('one', [files[0]!]);
  first.put('both', files);
  first.put('gone', files);
  first.drop('gone');
  first.drop('never there');
  first.put('one', [files[1]!]);
  t.same([...first.names()].sort(), ['both', 'one']);
  const [pid] = holdersOf(directory);
  t.ok(pid !== undefined && isAlive(pid));
  t.equal(readdirSync(`/proc/${pid}/task`).length, 1, 'one thread');

  await t.test('while the first one is there, and when it has gone', async (t) => {
    const second = Holder.find(directory)!;
    t.same(inodesOf(second.held), { one: [b], both: [a, b] });
    first.close();
    second.holder.close();
    const third = Holder.find(directory)!;
    t.same(inodesOf(third.held), { one: [b], both: [a, b] });
    t.same([...third.holder.names()].sort(), ['both', 'one']);
    third.holder.close();
  });

  await t.test('who speaks nonsense is left alone, and nothing else changes', async (t) => {
    for (const text of ['Z', 'nonsense', '\0']) {
      const connection = connectPackets(cwdPath(directory))!;
      connection.send(text, files);
      t.throws(() => connection.receive(5000), 'it is disconnected');
      connection.close();
    }
    const found = Holder.find(directory)!;
    t.same(inodesOf(found.held), { one: [b], both: [a, b] });
    found.holder.end();
    await until(() => !isAlive(pid!), { what: 'its end' });
    t.notOk(readdirSync(directory).includes('holder'));
    t.equal(Holder.find(directory), undefined);
  });
  t.equal(openDescriptors(), before, 'and all are closed here');
  for (const file of files) closeSync(file);
});

await t.test('a holder that is killed is noticed, and what it is asked from then on is nothing', async (t) => {
  const directory = longDirectory(t);
  const holder = Holder.start(directory);
  const lost: string[] = [];
  holder.watch((why) => lost.push(why));
  holder.put('one', [0]);
  const [pid] = holdersOf(directory);
  process.kill(pid!, 'SIGKILL');
  await until(() => lost.length > 0, { what: 'it is noticed' });
  holder.put('two', [0]);
  holder.drop('one');
  t.equal(lost.length, 1);

  await t.test('one that stands still is killed', async (t) => {
    const still = Holder.start(directory);
    const [next] = holdersOf(directory);
    still.put('one', [0]);
    process.kill(next!, 'SIGSTOP');
    still.watch((why) => lost.push(why));
    still.put('two', [0]);
    t.same(lost.slice(1), ['it does not answer']);
    await until(() => !isAlive(next!), { what: 'it is killed, with all that it has' });
  });

  await t.test('one that stands still when it is found is killed, too', async (t) => {
    const left = Holder.start(directory);
    left.put('one', [0]);
    const [next] = holdersOf(directory);
    left.close();
    process.kill(next!, 'SIGSTOP');
    t.equal(Holder.find(directory), undefined);
    await until(() => !isAlive(next!), { what: 'its end' });
  });
});

await t.test('one that the next daemon would not find ends, and says so', async (t) => {
  const directory = longDirectory(t);
  const before = openDescriptors();
  const holder = Holder.start(directory);
  const lost: string[] = [];
  holder.watch((why) => lost.push(why));
  holder.put('one', [0]);
  const [pid] = holdersOf(directory);
  holder.look();
  t.same(lost, []);
  rmSync(directory, { recursive: true });
  holder.look();
  t.same(lost, [`${join(directory, 'holder')} was deleted`]);
  await until(() => !isAlive(pid!), { what: 'its end' });
  holder.look();
  t.equal(lost.length, 1);
  t.equal(openDescriptors(), before);
  t.throws(() => Holder.start(directory), { code: 'ENOENT' }, 'the directory is not there');
  mkdirSync(directory);
  Holder.start(directory).end();
});

await t.test('Docker is refused soon while there is no daemon', async (t) => {
  const directory = longDirectory(t);
  const path = join(directory, '../docker.sock');
  const server = createServer().on('connection', () => t.fail('only the holder accepts'));
  server.listen(path);
  await once(server, 'listening');
  const listening = duplicate((server as unknown as { readonly _handle: { readonly fd: number } })._handle.fd);
  // It removes its file.
  const kept = join(directory, '../kept.sock');
  linkSync(path, kept);
  server.close();
  const holder = Holder.start(directory);
  holder.put('docker', [listening]);
  closeSync(listening);
  const ask = (method: string): Promise<{ status: number | undefined; body: string } | string> =>
    new Promise((resolve) => {
      const asking = request({ socketPath: kept, method: 'POST', path: `/${method}`, agent: false }, (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.once('end', () => resolve({ status: response.statusCode, body }));
      });
      asking.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code ?? ''));
      asking.end('{}');
    });
  const first = ask('IpamDriver.RequestAddress');
  let isAnswered = false;
  void first.then(() => (isAnswered = true));
  for (let round = 0; round < 3; round++) holder.put('other', [0]);
  t.equal(isAnswered, false, 'while a daemon is there, it is that one who answers');
  holder.close();
  const why = 'weft was killed, and has not started again: start it, and try again';
  const refused = { status: 503, body: JSON.stringify({ Err: why, Error: why }) };
  t.same(await first, refused);
  t.same(await ask('NetworkDriver.Join'), refused, 'and at once from then on');
  t.equal(await ask('IpamDriver.GetCapabilities'), 'ECONNRESET', 'what Docker asks once it is to ask again');
  const next = createServer();
  const remove = await claimSocket(next, kept);
  t.pass('a daemon that does not find the holder takes its place');
  remove();
  next.close();
  Holder.find(directory)!.holder.end();
});

/** A short path to the holder's socket in a directory. */
function cwdPath(directory: string): string {
  process.chdir(directory);
  return 'holder';
}
