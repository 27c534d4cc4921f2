/** Services to readers over HTTP: nothing waits for a reader, and one that leaves ends what it followed. */
import t from 'tap';
import { serviceStream } from '../../src/api/service-stream.ts';
import type { ServiceNews } from '../../src/model/service-report.ts';
import { service } from './fake-switch.ts';

const news = (isListed = false): ServiceNews => ({ events: [{ type: 'ADDED', object: service }], isListed });

t.test('events, the end of the list, and the end', async (t) => {
  const body = serviceStream(async function* () {
    yield news(true);
    yield { events: [{ type: 'DELETED', object: { name: 'shop', namespace: 'default' } }], isListed: false };
  });
  const chunks: string[] = [];
  for await (const chunk of body) chunks.push(Buffer.from(chunk).toString());
  t.same(chunks, [
    `event: item\ndata: ${JSON.stringify({ type: 'ADDED', object: service })}\n\nevent: open\ndata: null\n\n`,
    'event: item\ndata: {"type":"DELETED","object":{"name":"shop","namespace":"default"}}\n\n',
    'event: end\ndata: null\n\n',
  ]);
});

t.test('a reader that does not read is asked for nothing, and one that leaves ends it', async (t) => {
  let told = 0;
  let signal!: AbortSignal;
  const body = serviceStream(async function* (leaving) {
    signal = leaving;
    for (;;) {
      told++;
      yield news();
    }
  });
  const reader = body.getReader();
  for (let n = 0; n < 20; n++) await new Promise(setImmediate);
  t.equal(told, 0);
  await reader.read();
  for (let n = 0; n < 20; n++) await new Promise(setImmediate);
  t.equal(told, 1);
  await reader.cancel();
  t.equal(signal.aborted, true);
});
