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
    queue: { duplicate: dup, later: (work) => void laters.push(work) },
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
        queue: { duplicate, later: () => {} },
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

t.test('clients that say nothing keep nobody out', async (t) => {
  const { path, server, answer, pass } = await open(t);
  answer();
  let count = 0;
  const silent = Array.from({ length: SILENT }, () => {
    return connect(path)
      .once('connect', () => count++)
      .on('error', () => {});
  });
  await until(() => count === SILENT, { what: 'all are connected, or wait' });
  const asked = ask(path);
  let isDone = false;
  void asked.then(() => (isDone = true));
  await until(() => (pass(), isDone), { what: 'the one that asks is answered' });
  t.equal(await asked, 200);
  for (const socket of silent) socket.destroy();
  await server.close(AbortSignal.timeout(1000));
});

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
  const { path, server, answer, waiting, refusals } = await open(t, () => {
    throw full;
  });
  const asked = Array.from({ length: CLIENTS }, () => ask(path));
  await until(() => waiting.length === CLIENTS, { what: 'all are connected' });
  t.same(refusals, [full]);
  answer();
  t.same(new Set(await Promise.all(asked)), new Set([200]));
  await server.close(AbortSignal.timeout(1000));
});
