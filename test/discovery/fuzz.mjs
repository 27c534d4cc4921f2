/**
 * Sends damaged questions over UDP and TCP: `node fuzz.mjs GATEWAY NAME SEED COUNT|SECONDSs`. Between them, it asks for NAME, and
 * fails if that is not answered. Prints how much it has sent.
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

function damaged() {
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

function sendOverTcp() {
  return new Promise((resolve) => {
    const socket = connect({ host, port: 53 });
    socket.setTimeout(20_000, () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', resolve);
    socket.resume();
    for (let i = 0; i < 3; i++) {
      const message = damaged();
      const length = Buffer.alloc(2);
      length.writeUInt16BE(below(10) === 0 ? below(0x10000) : message.length);
      socket.write(Buffer.concat([length, message]));
    }
    socket.end();
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
