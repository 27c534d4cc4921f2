/** Nothing is left of a session with a member that refused it. */
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { Client, credentials } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { range } from '../../src/store/etcd/messages.ts';
import { Session, type SessionOptions } from '../../src/store/etcd/session.ts';
import { until } from '../support/process.ts';

/** A port of the loopback where nobody listens until `listen`. */
async function refusing(t: Test) {
  const address = `127.${(process.pid >> 16) & 255}.${(process.pid >> 8) & 255}.${process.pid & 255}`;
  const server = createServer();
  const port = await new Promise<number>((resolve) => {
    server.listen(0, address, () => resolve((server.address() as AddressInfo).port));
  });
  await new Promise((resolve) => void server.close(resolve));
  const sockets: Socket[] = [];
  server.on('connection', (socket) => sockets.push(socket));
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => void server.close(resolve));
  });
  return { endpoint: `${address}:${port}`, sockets, listen: () => void server.listen(port, address) };
}

function open(endpoint: string, after: SessionOptions['after']): Promise<Session> {
  return Session.open({
    endpoint,
    credentials: credentials.createInsecure(),
    user: undefined,
    probed: { key: Buffer.from('weft/') },
    limits: {
      ...{ callMs: 5000, connectMs: 5000, probeMs: 5000, probeTimeoutMs: 5000 },
      ...{ impatientMs: 5000, silenceMs: 5000, answerMs: 5000 },
    },
    after,
  });
}

t.test('a member that begins to listen later is not connected by a session that was given up', async (t) => {
  const [member, other] = [await refusing(t), await refusing(t)];
  await t.rejects(
    open(member.endpoint, () => () => {}),
    { message: /ECONNREFUSED/ },
  );
  // A channel of gRPC that is closed in the same way, and later: when it connects, the session would have been there first.
  const plain = new Client(`dns:${other.endpoint}`, credentials.createInsecure());
  await new Promise<void>((resolve) => {
    plain.makeUnaryRequest(range.path, range.encode, range.decode, { key: Buffer.from('a') }, () => resolve());
  });
  plain.close();
  for (const one of [member, other]) one.listen();
  await until(() => other.sockets.length === 1, { what: 'the connection that is left of the other channel' });
  t.equal(member.sockets.length, 0);
});

t.test('a connection to a member that accepts it and says nothing ends with the attempt', async (t) => {
  const member = await refusing(t);
  member.listen();
  const late: (() => void)[] = [];
  const opened = open(member.endpoint, (_, work) => {
    late.push(work);
    return () => {};
  });
  let isOpen = true;
  await until(() => member.sockets.length === 1, { what: 'the connection' });
  member.sockets[0]!.resume().on('close', () => (isOpen = false));
  while (late.length > 0) late.shift()!();
  await t.rejects(opened, { message: 'no answer within 5 s' });
  await until(() => !isOpen, { what: 'its end' });
});
