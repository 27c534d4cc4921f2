/** Questions over TCP, where answers fail, and where there are too many. */
import { EventEmitter, once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import t from 'tap';
import { AT_ONCE, LEAST_WAIT_MS, QuestionRates } from '../../src/discovery/question-rates.ts';
import { answerStream, IDLE_MS, type StreamOptions } from '../../src/discovery/stream.ts';

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
      answerStream(socket, {
        after: () => () => {},
        takeTurn: () => 0,
        answer,
        onFailed: (error) => void failures.push(error),
      }),
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

t.test(
  'a client that asks too fast waits for its turn, whatever it has of connections, and others do not',
  async (t) => {
    let nowMs = 0;
    const turns: (() => void)[] = [];
    const answered = [0, 0, 0];
    const rates = new QuestionRates(() => nowMs);
    const news = new EventEmitter();
    const options = (connection: number, client: number): StreamOptions => ({
      after: (delayMs, work) => {
        if (delayMs !== IDLE_MS) turns.push(work);
        news.emit('news');
        return () => {};
      },
      takeTurn: () => rates.take(client),
      answer: () => {
        answered[connection]!++;
        news.emit('news');
        return Buffer.alloc(12);
      },
      onFailed: (error) => t.fail(String(error)),
    });
    const until = async (is: () => boolean): Promise<void> => {
      while (!is()) await once(news, 'news');
    };
    const clients = [1, 1, 2];
    const accepted: Socket[] = [];
    const server = createServer({ allowHalfOpen: true }, (socket: Socket) => {
      accepted.push(socket);
      socket
        .on('error', () => {})
        .once('data', (first: Buffer) => {
          const connection = first[0]!;
          answerStream(socket, options(connection, clients[connection]!));
          if (first.length > 1) socket.unshift(first.subarray(1));
        });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const ask = (connection: number, count: number): Socket => {
      const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
      socket.resume();
      socket.write(Buffer.concat([Buffer.of(connection), ...Array.from({ length: count }, () => question)]));
      return socket;
    };
    const sockets = [ask(0, 1000)];
    await until(() => turns.length === 1);
    t.same(answered, [AT_ONCE, 0, 0], 'so many at once');
    sockets.push(ask(1, 5));
    await until(() => turns.length === 2);
    t.equal(answered[1], 0, 'also by another connection');
    sockets.push(ask(2, 5));
    await until(() => answered[2] === 5);
    nowMs += LEAST_WAIT_MS;
    turns.splice(0, 1)[0]!();
    t.equal(answered[0], AT_ONCE + 2 * LEAST_WAIT_MS, 'and two a millisecond');
    for (const socket of [...sockets, ...accepted]) socket.destroy();
    server.close();
  },
);

t.test('clients that have asked nothing for a while are forgotten', async (t) => {
  let nowMs = 0;
  const rates = new QuestionRates(() => nowMs);
  for (let client = 0; client < 5000; client++) {
    rates.take(client);
    nowMs++;
  }
  t.ok(rates.size <= 1024, `${rates.size} are remembered`);
});
