/** Resources to readers over HTTP: a slow one is bounded, learns that it lost its place, and starts again. */
import t from 'tap';
import { MOST_WAITING, resourceStream } from '../../src/api/resource-stream.ts';
import type { Resource, ResourceEvent } from '../../src/model/resource.ts';
import { manifest } from '../support/switch.ts';

const one = (name: string): Resource => manifest('Namespace', name, {});
const b = one('b');

/** A cluster that has what `there` has, and followers that are told by hand. */
function cluster(there: Resource[]) {
  const listeners = new Set<{ onEvent: (event: ResourceEvent) => void; onEnd: () => void }>();
  const follow = (onEvent: (event: ResourceEvent) => void, onEnd: () => void) => {
    const listener = { onEvent, onEnd };
    listeners.add(listener);
    return { listing: [...there], stop: () => void listeners.delete(listener) };
  };
  const tell = (event: ResourceEvent): void => {
    if (event.type === 'ADDED') there.push(event.object);
    for (const { onEvent } of [...listeners]) onEvent(event);
  };
  return { follow, tell, listeners, end: () => [...listeners].forEach(({ onEnd }) => onEnd()) };
}

/** The events of a stream, as they come: `item ADDED a`, `open null`, `lost 5`. */
async function* read(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  for await (const chunk of body) {
    for (const text of Buffer.from(chunk).toString().split('\n\n').slice(0, -1)) {
      const [, event, data = ''] = /^event: (\w+)\ndata: (.*)$/.exec(text)!;
      const { type, object } = event === 'item' ? (JSON.parse(data) as ResourceEvent) : {};
      yield object ? `${type} ${object.metadata.name}` : `${event} ${data}`;
    }
  }
}

async function take(events: AsyncGenerator<string>, count: number): Promise<string[]> {
  const taken: string[] = [];
  while (taken.length < count) {
    const { value, done } = await events.next();
    if (done) break;
    taken.push(value);
  }
  return taken;
}

t.test('the list, an end of it, and changes; those that come while it is read come after it', async (t) => {
  const many = Array.from({ length: 200 }, (_, n) => one(`n${n}`));
  const { follow, tell, listeners } = cluster([...many]);
  const events = read(resourceStream(follow));
  t.equal((await events.next()).value, 'ADDED n0');
  tell({ type: 'MODIFIED', object: one('n7') });
  tell({ type: 'DELETED', object: one('n150') });
  const rest = await take(events, 202);
  t.same(
    rest.slice(0, 199),
    many.slice(1).map(({ metadata }) => `ADDED ${metadata.name}`),
  );
  t.same(rest.slice(199), ['open null', 'MODIFIED n7', 'DELETED n150']);
  const next = take(events, 2);
  tell({ type: 'ADDED', object: one('x') });
  tell({ type: 'ADDED', object: one('y') });
  t.same(await next, ['ADDED x', 'ADDED y']);
  await events.return(undefined);
  t.equal(listeners.size, 0, 'a reader that goes away is forgotten');
});

t.test('a reader that is too slow is told so and gets everything again', async (t) => {
  const { follow, tell, listeners } = cluster([one('a'), one('b')]);
  const events = read(resourceStream(follow));
  t.same(await take(events, 3), ['ADDED a', 'ADDED b', 'open null']);
  // The first one is on its way already: the reader waited for it.
  for (let n = 0; n < MOST_WAITING + 5; n++) tell({ type: 'MODIFIED', object: b });
  tell({ type: 'ADDED', object: one('c') });
  t.equal(listeners.size, 1);
  const rest: string[] = [];
  for await (const event of events) {
    rest.push(event);
    if (event === 'open null') break;
  }
  const told = rest.filter((event) => event === 'MODIFIED b').length;
  t.same(rest.slice(told), [`lost ${MOST_WAITING + 6 - told}`, 'ADDED a', 'ADDED b', 'ADDED c', 'open null']);
});

t.test('exactly as many as may wait are all told', async (t) => {
  const { follow, tell } = cluster([]);
  const body = resourceStream(follow);
  for (let n = 0; n < MOST_WAITING; n++) tell({ type: 'MODIFIED', object: b });
  const rest = await take(read(body), MOST_WAITING + 1);
  t.equal(rest[0], 'open null');
  t.ok(rest.slice(1).every((event) => event === 'MODIFIED b') && rest.length === MOST_WAITING + 1);
});

t.test('when the switch stops, the reader gets what is left, and the end', async (t) => {
  const { follow, tell, end, listeners } = cluster([one('a')]);
  const body = resourceStream(follow);
  tell({ type: 'DELETED', object: one('a') });
  end();
  t.same(await take(read(body), 10), ['ADDED a', 'open null', 'DELETED a', 'end null']);
  t.equal(listeners.size, 0);
});
