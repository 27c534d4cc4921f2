/** A member that answers calls but is silent about watches: a server of the test's own, since etcd does that rarely. */
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import t from 'tap';
import * as etcd from '../../src/store/etcd/messages.ts';
import { decode, encode, type Input, type Output } from '../../src/store/etcd/protobuf.ts';
import { openStoreOf } from '../support/etcd-store.ts';
import type { Etcd } from '../support/etcd.ts';
import { until } from '../support/process.ts';

t.setTimeout(60_000);

const header = { clusterId: 1n, memberId: 1n, revision: 7, raftTerm: 2 };
type Request = Output<typeof etcd.watch.request>;
type Response = Input<typeof etcd.watch.response>;

/** @param onWatch answers what a client asks of a watch */
async function member(
  onWatch: (request: Request, send: (response: Response) => void) => void,
): Promise<{ port: number; watches: () => number; close: () => void }> {
  let watches = 0;
  const server = new Server();
  const bytes = (buffer: Buffer): Buffer => buffer;
  const method = (path: string, isStream: boolean) => ({
    path,
    requestStream: isStream,
    responseStream: isStream,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  });
  server.addService(
    {
      range: method(etcd.range.path, false),
      watch: method(etcd.watch.path, true),
      keepAlive: method(etcd.leaseKeepAlive.path, true),
    },
    {
      range: (_: unknown, answer: (error: null, bytes: Buffer) => void) =>
        answer(null, encode(etcd.range.response, { header })),
      watch: (call: ServerDuplexStream<Buffer, Buffer>) => {
        watches++;
        call.on('data', (request: Buffer) => {
          onWatch(decode(etcd.watch.request, request), (response) =>
            call.write(encode(etcd.watch.response, { header, ...response })),
          );
        });
        call.on('error', () => {});
      },
      keepAlive: () => {},
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { port, watches: () => watches, close: () => server.forceShutdown() };
}

const limits = { answerMs: 100, silenceMs: 100 };
const at = (port: number) => ({ members: [{ clientAddress: `127.0.0.1:${port}` }] }) as unknown as Etcd;

t.test('a watch whose creation is not answered is made again', async (t) => {
  const { port, watches, close } = await member(() => {});
  t.teardown(close);
  const store = openStoreOf(at(port), { limits });
  t.teardown(() => store.close());
  store.watch('', 8, () => {});
  await until(() => watches() >= 3, { what: 'three attempts' });
});

t.test(
  'a watch that stays silent when it is asked for its progress is made again, one that answers is not',
  async (t) => {
    let asked = 0;
    const answering = await member(({ progress }, send) => {
      if (progress) asked++;
      send(progress ? {} : { isCreated: true });
    });
    t.teardown(answering.close);
    const silent = await member(({ progress }, send) => {
      if (!progress) send({ isCreated: true });
    });
    t.teardown(silent.close);
    const [one, other] = [openStoreOf(at(answering.port), { limits }), openStoreOf(at(silent.port), { limits })];
    t.teardown(() => Promise.all([one.close(), other.close()]));
    one.watch('', 8, () => {});
    other.watch('', 8, () => {});
    await until(() => asked >= 3 && silent.watches() >= 3, { what: 'both to be asked' });
    // A machine that was busy for longer than the answer may take makes another one.
    t.ok(answering.watches() < asked, `${answering.watches()} watches, asked ${asked} times`);
  },
);
