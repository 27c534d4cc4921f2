/**
 * Asks for NAME over UDP at a constant rate, or as fast as 64 at once are answered: `node load.mjs GATEWAY NAME RATE|max SECONDS`.
 * Prints JSON: how many were asked and answered, and the median and the 99th percentile of how long that took, in ms.
 */
import { createSocket } from 'node:dgram';
import { encode } from 'dns-packet';

const [host, name, rateText, secondsText] = process.argv.slice(2);
const AT_ONCE = 64;
const TICK_MS = 2;

const seconds = Number(secondsText);
const socket = createSocket('udp4');
const sentAt = new Map();
const took = [];
const message = encode({ type: 'query', id: 0, flags: 256, questions: [{ type: 'A', name }] });
let asked = 0;
let isOver = false;

function ask() {
  const id = asked++ & 0xffff;
  const bytes = Buffer.from(message);
  bytes.writeUInt16BE(id, 0);
  sentAt.set(id, performance.now());
  socket.send(bytes, 53, host);
}
socket.on('message', (bytes) => {
  const id = bytes.readUInt16BE(0);
  const at = sentAt.get(id);
  if (at === undefined) return;
  sentAt.delete(id);
  took.push(performance.now() - at);
  if (rateText === 'max' && !isOver) ask();
});

socket.bind(() => {
  const begin = performance.now();
  if (rateText === 'max') for (let i = 0; i < AT_ONCE; i++) ask();
  const ticker = setInterval(() => {
    const passedMs = performance.now() - begin;
    if (rateText !== 'max') while (asked < Math.min(passedMs, seconds * 1000) * (Number(rateText) / 1000)) ask();
    if (passedMs < seconds * 1000) return;
    isOver = true;
    clearInterval(ticker);
    setTimeout(() => {
      took.sort((a, b) => a - b);
      const at = (share) => Number(took[Math.floor(took.length * share)]?.toFixed(3));
      console.log(JSON.stringify({ asked, answered: took.length, seconds, p50Ms: at(0.5), p99Ms: at(0.99) }));
      socket.close();
    }, 1000);
  }, TICK_MS);
});
