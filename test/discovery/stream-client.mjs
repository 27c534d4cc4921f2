/**
 * DNS as no resolver does it, over TCP: `node stream-client.mjs MODE GATEWAY NAME [COUNT]`.
 *   pipelined   COUNT questions in one write, whose end is sent with them; prints how many were answered
 *   split       one question, byte by byte; prints the first address
 *   slow        one byte, then nothing; prints `closed` when the server has ended the connection
 *   many        opens COUNT connections, and holds them; prints how many are open
 *   waiting     COUNT questions over UDP at once, for names below NAME; prints `done` as soon as all but 64 are answered with SERVFAIL
 *   flood       asks all it can by COUNT connections, until somebody ends it; prints `begun`
 *   garbage     COUNT connections with random bytes; prints `done`
 */
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { randomBytes } from 'node:crypto';
import { decode, encode, streamEncode } from 'dns-packet';

const [mode, host, name, count = '1'] = process.argv.slice(2);
const query = (id) => streamEncode({ type: 'query', id, questions: [{ type: 'A', name }] });

function open(onAnswer, onEnd = () => {}) {
  const socket = connect({ host, port: 53, allowHalfOpen: true });
  let rest = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (bytes) => {
    rest = Buffer.concat([rest, bytes]);
    while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE()) {
      const end = 2 + rest.readUInt16BE();
      onAnswer(decode(rest.subarray(2, end)));
      rest = rest.subarray(end);
    }
  });
  socket.on('close', onEnd);
  socket.on('end', () => socket.end());
  return socket;
}

const modes = {
  pipelined() {
    const ids = new Set();
    const socket = open(
      (answer) => answer.answers.length > 0 && ids.add(answer.id),
      () => console.log(ids.size),
    );
    socket.end(Buffer.concat(Array.from({ length: Number(count) }, (_, id) => query(id))));
  },
  async split() {
    const socket = open((answer) => {
      console.log(answer.answers[0].data);
      socket.destroy();
    });
    socket.setNoDelay();
    for (const byte of query(1)) {
      await new Promise((resolve) => socket.write(Buffer.of(byte), resolve));
      await new Promise((resolve) => setImmediate(resolve));
    }
  },
  slow() {
    open(
      () => {},
      () => console.log('closed'),
    ).write(Buffer.of(0));
  },
  many() {
    let left = Number(count);
    let opened = 0;
    const done = () => --left === 0 && console.log(opened);
    for (let i = 0; i < Number(count); i++) {
      const socket = connect({ host, port: 53 });
      socket.once('connect', () => {
        opened++;
        done();
      });
      socket.on('error', () => !socket.readyState.startsWith('open') && done());
    }
  },
  waiting() {
    const socket = createSocket('udp4');
    let refused = 0;
    const ask = (id, name) => socket.send(encode({ type: 'query', id, questions: [{ type: 'A', name }] }), 53, host);
    socket.on('message', (message) => {
      if (decode(message).rcode === 'SERVFAIL' && ++refused === Number(count) - 64) console.log('done');
    });
    // Of a flow that is not decided yet, only a few packets wait: the others are sent when one has been answered.
    socket.once('message', () => {
      for (let id = 0; id < Number(count); id++) ask(id, `silent.n${id}.${name}`);
    });
    ask(0, 'no.weft');
  },
  flood() {
    const many = Buffer.concat(Array.from({ length: 2000 }, (_, id) => query(id)));
    for (let i = 0; i < Number(count); i++) {
      const begin = () => {
        const socket = connect({ host, port: 53 });
        const next = (error) => !error && socket.write(many, next);
        socket.once('connect', () => next());
        socket.on('error', () => {});
        socket.on('close', begin);
        socket.resume();
      };
      begin();
    }
    console.log('begun');
  },
  garbage() {
    let left = Number(count);
    for (let i = 0; i < Number(count); i++) {
      const socket = open(
        () => {},
        () => --left === 0 && console.log('done'),
      );
      const bytes = randomBytes(1 + (i % 100));
      if (i % 2 === 0) bytes[0] = 0;
      socket.end(bytes);
    }
  },
};
void modes[mode]();
