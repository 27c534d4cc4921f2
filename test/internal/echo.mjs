/**
 * A server for tests: it tells its client who that is to weft. An answer to `123 …` has so many bytes, `fail` makes it
 * throw, `reject` does so later, and `die` ends its thread. A datagram `late …` is answered after the call has returned.
 */
const saidTo = (message, { network, endpoint }) => {
  const text = `${network} ${endpoint} ${message}`;
  if (String(message) === 'fail') throw new Error('asked to fail');
  if (String(message) === 'die') process.exit(7);
  const lengthBytes = Number(/^\d+/.exec(message)?.[0] ?? 0);
  return Buffer.from(text.padEnd(lengthBytes, '.'));
};

export default () => ({
  datagram(message, client, answer) {
    if (String(message) === 'reject') return Promise.reject(new Error('asked to reject'));
    const said = saidTo(message, client);
    if (String(message).startsWith('late')) setImmediate(() => answer(said));
    else answer(said);
    return undefined;
  },
  connection(socket, client) {
    socket.on('data', (message) => socket.write(saidTo(message, client)));
    socket.on('end', () => socket.end());
  },
});
