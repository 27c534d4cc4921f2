/**
 * A name server for tests: `node name-server.mjs ADDRESS`. Each question is a line of its output, `NAME TYPE udp|tcp ID PORT
 * EDNS-SIZE`. What it answers depends on the name; 127.0.0.2 is the only one that knows everything.
 */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { decode, encode, streamEncode, RECURSION_AVAILABLE, TRUNCATED_RESPONSE } from 'dns-packet';

const [address] = process.argv.slice(2);
const SERVFAIL = 2;
const NXDOMAIN = 3;
const REFUSED = 5;
const isLast = address === '127.0.0.2';

const a = (name, data, ttl = 300) => ({ type: 'A', name, ttl, data });

/** @returns messages to send; none: silence */
function answers(query, isUdp) {
  const [question] = query.questions;
  const name = question.name.toLowerCase();
  const whole = {
    type: 'response',
    id: query.id,
    questions: [question],
    flags: RECURSION_AVAILABLE,
    additionals: query.additionals,
  };
  const [first] = name.split('.');
  if (first === 'silent' || (first === 'half' && !isLast)) return [];
  if (first === 'broken' || (first === 'sick' && !isLast)) return [{ ...whole, flags: whole.flags | SERVFAIL }];
  if (first === 'shy' && !isLast) return [{ ...whole, flags: whole.flags | REFUSED }];
  if (first === 'no') {
    const soa = { mname: 'ns.example', rname: 'x.example', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 30 };
    return [
      { ...whole, flags: whole.flags | NXDOMAIN, authorities: [{ type: 'SOA', name: 'example', ttl: 30, data: soa }] },
    ];
  }
  if (first === 'large' || first === 'wide') {
    const count = first === 'large' ? 100 : 60;
    const many = Array.from({ length: count }, (_, i) => a(question.name, `192.0.2.${i}`));
    return [
      isUdp && first === 'large' ? { ...whole, flags: whole.flags | TRUNCATED_RESPONSE } : { ...whole, answers: many },
    ];
  }
  if (first === 'insistent' && isUdp) {
    return Array.from({ length: 50 }, () => ({ ...whole, flags: whole.flags | TRUNCATED_RESPONSE }));
  }
  if (first === 'misplaced') return [misplacedOpt(whole)];
  if (first === 'torrent' && isLast) return [];
  if (first === 'torrent' && isUdp) return [{ ...whole, flags: whole.flags | TRUNCATED_RESPONSE }];
  const right = {
    ...whole,
    answers: [a(question.name, isLast ? '192.0.2.2' : '192.0.2.1', first === 'brief' ? 0 : 300)],
  };
  if (first !== 'forged') return [right];
  const evil = { ...whole, answers: [a(question.name, '192.0.2.66')] };
  return [
    { ...evil, id: query.id ^ 1 },
    { ...evil, questions: [{ type: 'A', name: 'other.example' }] },
    { ...evil, type: 'query' },
    right,
  ];
}

/** An answer whose only record is OPT, which is none. */
function misplacedOpt(whole) {
  const message = Buffer.concat([encode({ ...whole, additionals: [] }), Buffer.of(0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)]);
  message.writeUInt16BE(1, 6);
  return message;
}

/** Something that is no answer, and then as much as is taken. In the end, says how many MiB that was. */
function pourOut(socket) {
  const piece = Buffer.alloc(65_536);
  let sent = 0;
  const next = (error) => {
    if (!error && !socket.destroyed) socket.write(piece, next);
    sent++;
  };
  socket.on('close', () => console.log(`poured - - - - ${Math.round(sent / 16)}`));
  socket.write(Buffer.concat([Buffer.of(0, 12), Buffer.alloc(12)]), next);
}

function told(query, how, port) {
  const [{ name, type }] = query.questions;
  const opt = query.additionals.find((one) => one.type === 'OPT');
  console.log([name, type, how, query.id, port, opt?.udpPayloadSize ?? '-'].join(' '));
}

const udp = createSocket('udp4');
udp.on('message', (message, from) => {
  const query = decode(message);
  told(query, 'udp', from.port);
  for (const one of answers(query, true)) udp.send(Buffer.isBuffer(one) ? one : encode(one), from.port, from.address);
});
udp.bind(53, address, () => {
  createServer((socket) => {
    let rest = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      rest = Buffer.concat([rest, bytes]);
      if (rest.length < 2 || rest.length < 2 + rest.readUInt16BE()) return;
      const query = decode(rest.subarray(2));
      told(query, 'tcp', socket.remotePort);
      if (query.questions[0].name.startsWith('torrent')) return pourOut(socket);
      for (const one of answers(query, false)) {
        const message = streamEncode(one);
        socket.write(message.subarray(0, 3));
        setImmediate(() => socket.end(message.subarray(3)));
      }
    });
  }).listen(53, address, () => console.log('ready'));
});
