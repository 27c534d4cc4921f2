/**
 * Sends damaged questions over UDP and TCP: `node fuzz.mjs GATEWAY NAME SEED COUNT|SECONDSs`. Most are questions with changes, others
 * are made to be hard to read. Over TCP, lengths lie, and segments end anywhere. Between them, it asks for NAME, and fails if that is
 * not answered. Prints how much it has sent.
 */
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { decode, encode } from 'dns-packet';

const [host, name, seedText, until] = process.argv.slice(2);
/** How many damaged messages there are between two questions. */
const ROUND = 100;
const OVER_TCP = 10;

let state = Number(seedText) >>> 0;
const below = (limit) => {
  state = (state + 0x9e3779b9) >>> 0;
  let z = state;
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return ((z ^ (z >>> 15)) >>> 0) % limit;
};
const question = (id, type = 'A', more = {}) =>
  encode({ type: 'query', id, flags: 256, questions: [{ type, name }], ...more });
const opt = (options) => ({ additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 1232, options }] });
const samples = [
  question(1),
  question(2, 'SRV', opt([])),
  question(3, 'ANY', opt([{ code: 8, ip: '10.0.0.0', sourcePrefixLength: 24 }])),
  question(4, 'AAAA', opt([{ code: 14, tags: [1, 2, 3] }])),
  encode({ type: 'response', id: 5, questions: [{ type: 'A', name }], answers: [{ type: 'TXT', name, data: ['x'] }] }),
  encode({ type: 'query', id: 6, questions: [{ type: 'PTR', name: '2.0.44.10.in-addr.arpa' }] }),
];

const bytesOf = (count, byte = () => below(256)) => Buffer.from(Array.from({ length: count }, byte));
const u16 = (value) => Buffer.of((value >>> 8) & 0xff, value & 0xff);
/** A message with any flags and numbers of records. */
const headed = (rest, counts = [1, 0, 0, 0], flags = 0x0100) =>
  Buffer.concat([u16(below(0x10000)), u16(flags), ...counts.map(u16), rest]);
const inClass = Buffer.of(0, 1, 0, 1);
const labels = (...lengths) =>
  Buffer.concat(lengths.flatMap((length) => [Buffer.of(length), bytesOf(length, () => 97 + below(26))]));
const optRecord = (dataBytes, data, owner = Buffer.of(0)) =>
  Buffer.concat([
    owner,
    Buffer.of(0, 41, 4, 208, below(256), below(256), below(256), below(256)),
    u16(dataBytes),
    data,
  ]);

/** Messages that are hard to read. */
const hard = [
  // Names of pointers: to themselves, to each other, forwards, backwards by one, and far beyond the end.
  () => headed(Buffer.concat([u16(0xc000 | 12), inClass])),
  () => headed(Buffer.concat([u16(0xc000 | 14), u16(0xc000 | 12), inClass])),
  () => {
    const chain = Array.from({ length: 900 }, (_, i) => u16(0xc000 | Math.max(12, 10 + 2 * i)));
    return headed(Buffer.concat([...chain, inClass]), [1, 0, 0, 2]);
  },
  () => headed(Buffer.concat([labels(3), u16(0xc000 | below(0x4000)), inClass])),
  // Names of 254 to 257 bytes, of a hundred labels, with bytes that are no letters, and that are broken off.
  () => headed(Buffer.concat([labels(63, 63, 63, 57 + below(4)), Buffer.of(0), inClass])),
  () => headed(Buffer.concat([labels(...Array.from({ length: 100 + below(40) }, () => 1)), Buffer.of(0), inClass])),
  () =>
    headed(Buffer.concat([Buffer.of(63), bytesOf(63, () => [0, 46, 92, 255, 42][below(5)]), Buffer.of(0), inClass])),
  () => headed(labels(63, 63).subarray(0, 1 + below(127))),
  // Options: too long, too many, of another owner, anywhere but at the end.
  () =>
    headed(
      Buffer.concat([labels(3), Buffer.of(0), inClass, optRecord(below(0x10000), bytesOf(below(40)))]),
      [1, 0, 0, 1],
    ),
  () => {
    const options = Array.from({ length: 1 + below(3) }, () =>
      optRecord(6, Buffer.concat([u16(below(30)), u16(2), bytesOf(2)])),
    );
    return headed(Buffer.concat([labels(3), Buffer.of(0), inClass, ...options]), [1, 0, 0, options.length]);
  },
  () =>
    headed(Buffer.concat([labels(3), Buffer.of(0), inClass, optRecord(0, Buffer.alloc(0), u16(0xc00c))]), [1, 0, 0, 1]),
  () => {
    const counts = [1, 1, 0, 0].map((count) => count * below(3));
    return headed(Buffer.concat([labels(3), Buffer.of(0), inClass, optRecord(0, Buffer.alloc(0))]), counts);
  },
  // Any operation, flags, counts, type and class.
  () => {
    const rest = Buffer.concat([labels(3), Buffer.of(0), u16(below(300)), u16([1, 3, 4, 254, 255][below(5)])]);
    return headed(rest, [1, 0, 0, 0], below(0x8000));
  },
  () =>
    headed(
      Buffer.concat([labels(3), Buffer.of(0), inClass]),
      Array.from({ length: 4 }, () => below(0x10000)),
    ),
  () => bytesOf(below(1400)),
];

function damaged() {
  if (below(3) === 0) return hard[below(hard.length)]();
  let bytes = Buffer.from(samples[below(samples.length)]);
  for (let changes = 1 + below(6); changes > 0; changes--) {
    const at = below(bytes.length);
    const how = below(5);
    if (how === 0) bytes = bytes.subarray(0, at + 1);
    else if (how === 1) bytes = Buffer.concat([bytes, Buffer.alloc(below(1000), below(256))]);
    else if (how === 2) bytes.writeUInt8(0xc0 | below(2), at);
    else bytes.writeUInt8(below(256), at);
  }
  return bytes;
}

const udp = createSocket('udp4');
const answered = new Map();
udp.on('message', (message) => {
  try {
    const { id, answers } = decode(message);
    if (answers.length > 0) answered.get(id)?.();
  } catch {
    // Answers to damaged questions repeat the question.
  }
});

/** Resolves when it is answered; asks again each second, since datagrams may be lost. */
async function askOnce(id) {
  const message = question(id);
  await new Promise((resolve, reject) => {
    let tries = 0;
    const send = () =>
      ++tries > 20 ? reject(new Error('the server does not answer any more')) : udp.send(message, 53, host);
    const timer = setInterval(send, 1000);
    answered.set(id, () => {
      clearInterval(timer);
      resolve();
    });
    send();
  });
  answered.delete(id);
}

/** The rest is not sent if the connection has ended. */
async function sendInPieces(socket, bytes) {
  socket.setNoDelay();
  for (let at = 0; at < bytes.length && !socket.destroyed; ) {
    const end = at + 1 + (below(2) === 0 ? below(4) : below(bytes.length));
    await new Promise((resolve) => socket.write(bytes.subarray(at, end), resolve));
    at = end;
  }
  if (below(4) === 0) socket.resetAndDestroy();
  else socket.end();
}

function sendOverTcp() {
  return new Promise((resolve) => {
    const socket = connect({ host, port: 53 });
    socket.setTimeout(20_000, () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', resolve);
    socket.resume();
    const messages = Array.from({ length: 3 }, () => {
      const message = damaged();
      return Buffer.concat([u16(below(10) === 0 ? below(0x10000) : message.length), message]);
    });
    void sendInPieces(socket, Buffer.concat(messages));
  });
}

const isTimed = until.endsWith('s');
const end = isTimed ? Date.now() + 1000 * Number.parseInt(until, 10) : Number(until);
let sent = 0;
while (isTimed ? Date.now() < end : sent < end) {
  for (let i = 0; i < ROUND; i++) await new Promise((resolve) => udp.send(damaged(), 53, host, resolve));
  await Promise.all(Array.from({ length: OVER_TCP }, sendOverTcp));
  await askOnce(0xf000 + (sent % 1000));
  sent += ROUND + OVER_TCP;
}
console.log(`${sent} damaged messages`);
udp.close();
