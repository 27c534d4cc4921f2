/** More clients at once than may be connected, where a request must not be refused: they wait in the kernel's queue. */
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { duplicate } from '../../src/addon/passing.ts';
import { openUnixServer, type UnixServer } from '../../src/http/unix-server.ts';
import { until } from '../support/process.ts';

const CAP = 4;
const CLIENTS = 50;
/** Fewer than the kernel lets wait. */
const SILENT = 300;

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(() => setImmediate(resolve)));
const never = new AbortController().signal;

/** A server that answers when `answer` is called. */
async function open(t: Test, dup = duplicate) {
  // A socket's path is short.
  const directory = mkdtempSync(join(tmpdir(), 'weft-queue-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 's');
  let descriptors: readonly number[] = [];
  const refusals: Error[] = [];
  const laters: (() => void)[] = [];
  const server = await openUnixServer(path, {
    ...{ name: 'test', headers: {}, cap: CAP, failure: ({ message }) => ({ message }) },
    queue: { duplicate: dup, later: (work) => void laters.push(work), turn },
    descriptors: { take: () => undefined, opened: (_, opened) => (descriptors = opened) },
    onRefused: (error) => refusals.push(error),
  });
  const waiting: ((response: Response) => void)[] = [];
  let isAnswering = false;
  const serve = (one: UnixServer) =>
    one.serve(() =>
      Promise.resolve(() => (isAnswering ? new Response('yes') : new Promise((resolve) => waiting.push(resolve)))),
    );
  await serve(server);
  return {
    ...{ path, server, waiting, refusals },
    /** Another server takes its listening socket over, and answers alike. */
    successor: async () => {
      const listening = duplicate(descriptors[0]!);
      server.leave();
      const next = await openUnixServer(path, {
        ...{ name: 'test', headers: {}, cap: CAP, failure: ({ message }) => ({ message }) },
        queue: { duplicate, later: () => {}, turn },
        descriptors: { take: () => listening, opened: () => {} },
      });
      await serve(next);
      return next;
    },
    /** All, also those that are still to come. */
    answer: () => {
      isAnswering = true;
      for (const resolve of waiting.splice(0)) resolve(new Response('yes'));
    },
    /** What `later` was called for. */
    pass: () => {
      for (const work of laters.splice(0)) work();
    },
  };
}

function sayNothingTo(path: string) {
  return connect(path).on('error', () => {});
}

/** Sends the beginning of a request. */
function beginTo(path: string) {
  return connect(path)
    .once('connect', function begin(this: { write(text: string): void }) {
      this.write('POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{');
    })
    .on('error', () => {});
}

/** The status, or why there is none. */
function ask(socketPath: string): Promise<number | string | undefined> {
  return new Promise((resolve) => {
    const asking = request({ socketPath, path: '/x', method: 'POST', agent: false }, (response) => {
      response.resume().once('end', () => resolve(response.statusCode));
    });
    asking.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code));
    asking.end('{}');
  });
}

t.test('all are answered, a few at a time', async (t) => {
  const { path, server, waiting, answer } = await open(t);
  const asked = Array.from({ length: CLIENTS }, () => ask(path));
  await until(() => waiting.length === CAP, { what: 'as many as may be are connected' });
  answer();
  t.same(new Set(await Promise.all(asked)), new Set([200]));
  t.equal(await ask(path), 200, 'and whoever comes later');
  await server.close(AbortSignal.timeout(1000));
});

for (const [what, begin] of Object.entries({
  'clients that say nothing': sayNothingTo,
  'requests that are half sent': beginTo,
})) {
  t.test(`${what} keep nobody out`, async (t) => {
    const { path, server, answer, pass } = await open(t);
    answer();
    let count = 0;
    const slow = Array.from({ length: SILENT }, () => begin(path).once('connect', () => count++));
    await until(() => count === SILENT, { what: 'all are connected, or wait' });
    const asked = ask(path);
    let isDone = false;
    void asked.then(() => (isDone = true));
    await until(() => (pass(), isDone), { what: 'the one that asks is answered' });
    t.equal(await asked, 200);
    for (const socket of slow) socket.destroy();
    await server.close(AbortSignal.timeout(1000));
  });
}

t.test('those that wait when another server takes the socket are that one’s', async (t) => {
  const { path, server, waiting, answer, successor } = await open(t);
  const asked = Array.from({ length: CLIENTS }, () => ask(path));
  await until(() => waiting.length === CAP, { what: 'as many as may be are connected' });
  const next = await successor();
  await until(() => waiting.length === 2 * CAP, { what: 'as many as may be are connected to the next one' });
  answer();
  t.same(new Set(await Promise.all(asked)), new Set([200]));
  await Promise.all([server, next].map((one) => one.close(AbortSignal.timeout(1000))));
});

t.test('another server takes the socket as well after many have waited', async (t) => {
  const { path, server, waiting, answer, successor } = await open(t);
  const asked = Array.from({ length: CLIENTS }, () => ask(path));
  await until(() => waiting.length === CAP, { what: 'as many as may be are connected' });
  answer();
  t.same(new Set(await Promise.all(asked)), new Set([200]));
  const next = await successor();
  t.equal(await ask(path), 200);
  await Promise.all([server, next].map((one) => one.close(AbortSignal.timeout(1000))));
});

t.test('where there is no descriptor to wait with, nobody waits, and nothing ends', async (t) => {
  const full = new Error('no descriptor is left');
  let duplicates = 0;
  const { path, server, answer, waiting, refusals } = await open(t, (one) => {
    // What it begins with.
    if (duplicates++ < 2) return duplicate(one);
    throw full;
  });
  const asked = Array.from({ length: CLIENTS }, () => ask(path));
  await until(() => waiting.length === CLIENTS, { what: 'all are connected' });
  t.same(refusals, [full]);
  answer();
  t.same(new Set(await Promise.all(asked)), new Set([200]));
  await server.close(AbortSignal.timeout(1000));
});

t.test('nothing is accepted before it can be answered', async (t) => {
  const { path, server } = await open(t);
  server.leave();
  t.teardown(() => server.close(AbortSignal.timeout(1000)));
  rmSync(path);
  const laters: (() => void)[] = [];
  const first = await openUnixServer(path, {
    ...{ name: 'test', headers: {}, cap: CAP, failure: ({ message }) => ({ message }) },
    queue: { duplicate, later: (work) => void laters.push(work), turn },
  });
  const asked = ask(path);
  await turn();
  t.equal(laters.length, 0, 'it waits in the queue');
  await first.serve(() => Promise.resolve(() => new Response('yes')));
  t.equal(await asked, 200);
  await first.close(AbortSignal.timeout(1000));
});

t.test('one that hands over answers what it has accepted, and those that come are the next one’s', async (t) => {
  const { path, server, waiting, answer, successor } = await open(t);
  const first = ask(path);
  await until(() => waiting.length === 1, { what: 'it is asked' });
  server.hold();
  let isAnswered = false;
  const answered = server.answered(never).then(() => (isAnswered = true));
  const second = ask(path);
  await turn();
  t.equal(waiting.length, 1, 'the other one waits');
  t.equal(isAnswered, false);
  waiting.shift()!(new Response('yes'));
  t.equal(await first, 200);
  await answered;
  const next = await successor();
  await until(() => waiting.length === 1, { what: 'the next one is asked' });
  answer();
  t.equal(await second, 200);
  await Promise.all([server, next].map((one) => one.close(AbortSignal.timeout(1000))));
});

t.test('one that hands over waits no longer than it may, and goes on if it is to', async (t) => {
  const { path, server, waiting, answer } = await open(t);
  const first = ask(path);
  await until(() => waiting.length === 1, { what: 'it is asked' });
  server.hold();
  const second = ask(path);
  const deadline = new AbortController();
  const answered = server.answered(deadline.signal);
  deadline.abort();
  await answered;
  t.equal(waiting.length, 1);
  answer();
  t.equal(await first, 200);
  await server.serve(() => Promise.resolve(() => new Response('yes', { status: 201 })));
  t.equal(await second, 201, 'by who serves now');
  await server.close(AbortSignal.timeout(1000));
});

t.test('one that stops answers all who have connected, also those that wait', async (t) => {
  const { path, server, waiting, answer, pass } = await open(t);
  const asked = Array.from({ length: CLIENTS }, () => ask(path));
  await until(() => waiting.length === CAP, { what: 'as many as may be are connected' });
  let isFinished = false;
  const finished = server.finish(never).then(() => (isFinished = true));
  t.equal(await ask(path), 'ENOENT', 'the socket is gone');
  answer();
  t.same(new Set(await Promise.all(asked)), new Set([200]));
  await until(() => (pass(), isFinished), { what: 'nothing is left' });
  await finished;
  await server.close(AbortSignal.timeout(1000));
});

t.test('one that stops does not wait for who sends nothing', async (t) => {
  const { path, server, pass } = await open(t);
  const half = beginTo(path);
  await new Promise((resolve) => void half.once('connect', resolve));
  let isFinished = false;
  const finished = server.finish(never).then(() => (isFinished = true));
  await until(() => (pass(), isFinished), { what: 'it is ended' });
  await finished;
  await server.close(AbortSignal.timeout(1000));
});
