/**
 * Asks for NAME over UDP at a constant rate: `node load.mjs GATEWAY NAME RATE SECONDS`. It begins when a first question has been
 * answered, so that none is lost while the way is decided. Prints JSON: how many were asked and answered, and the median and
 * the 99th percentile of how long that took, in ms.
 */
import { createSocket } from 'node:dgram';
import { encode } from 'dns-packet';

const [host, name, rateText, secondsText] = process.argv.slice(2);
const TICK_MS = 2;
const AGAIN_MS = 1000;
const FIRST_ID = 0xffff;

const seconds = Number(secondsText);
const socket = createSocket('udp4');
const sentAt = new Map();
const took = [];
const message = encode({ type: 'query', id: FIRST_ID, flags: 256, questions: [{ type: 'A', name }] });
let asked = 0;

const first = setInterval(() => socket.send(message, 53, host), AGAIN_MS);
socket.once('message', begin);
socket.send(message, 53, host);

function ask() {
  const id = asked++ % FIRST_ID;
  const bytes = Buffer.from(message);
  bytes.writeUInt16BE(id, 0);
  sentAt.set(id, performance.now());
  socket.send(bytes, 53, host);
}

function take(bytes) {
  const id = bytes.readUInt16BE(0);
  const at = sentAt.get(id);
  if (at === undefined) return;
  sentAt.delete(id);
  took.push(performance.now() - at);
}

function begin() {
  clearInterval(first);
  socket.on('message', take);
  const beganAt = performance.now();
  const ticker = setInterval(() => {
    const passedMs = performance.now() - beganAt;
    while (asked < Math.min(passedMs, seconds * 1000) * (Number(rateText) / 1000)) ask();
    if (passedMs < seconds * 1000) return;
    clearInterval(ticker);
    setTimeout(() => {
      took.sort((a, b) => a - b);
      const at = (share) => Number(took[Math.floor(took.length * share)]?.toFixed(3));
      console.log(JSON.stringify({ asked, answered: took.length, seconds, p50Ms: at(0.5), p99Ms: at(0.99) }));
      socket.close();
    }, 1000);
  }, TICK_MS);
}
