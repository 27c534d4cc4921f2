/** Questions over TCP, where answers fail. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import t from 'tap';
import { answerStream, type StreamOptions } from '../../src/discovery/stream.ts';

const question = Buffer.concat([Buffer.from([0, 12]), Buffer.alloc(12)]);
const answers: Readonly<Record<string, StreamOptions['answer']>> = {
  'at once': () => {
    throw new Error('a defect');
  },
  later: async () => {
    throw new Error('a defect');
  },
};

for (const [when, answer] of Object.entries(answers)) {
  t.test(`an answer that fails ${when} ends its connection, and no other one`, async (t) => {
    const failures: unknown[] = [];
    const server = createServer({ allowHalfOpen: true }, (socket: Socket) =>
      answerStream(socket, { after: () => () => {}, answer, onFailed: (error) => void failures.push(error) }),
    );
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => server.close());
    for (let nth = 1; nth <= 2; nth++) {
      const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(question);
      await once(socket, 'close');
      t.match(
        failures,
        Array.from({ length: nth }, () => ({ message: 'a defect' })),
      );
    }
  });
}
