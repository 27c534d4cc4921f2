/** Who follows services gets what there is, and then what is seen differently; a slow reader is asked for nothing. */
import t from 'tap';
import { WeftError } from '../../src/error.ts';
import { idOf } from '../../src/model/name.ts';
import type { ServiceNews, ServiceReport } from '../../src/model/service-report.ts';
import { watchServices } from '../../src/observe/service-watch.ts';
import { service } from '../api/fake-switch.ts';

const named = (name: string, more: Partial<ServiceReport> = {}): ServiceReport => ({ ...service, name, ...more });

/** A switch that has `there`; `pass` lets the pause end that the watch makes, and returns how long it was. */
function lab(there: Map<string, ServiceReport>) {
  let nowMs = 0;
  const state = { looks: 0, lookMs: 0, pause: undefined as { delayMs: number; work: () => void } | undefined };
  const leaving = new AbortController();
  async function* list(): AsyncGenerator<ServiceReport> {
    state.looks++;
    nowMs += state.lookMs;
    yield* there.values();
  }
  const after = (delayMs: number, work: () => void): (() => void) => {
    state.pause = { delayMs, work };
    return () => (state.pause = undefined);
  };
  const news = watchServices({ clock: () => nowMs, after }, list, leaving.signal);
  const next = async (): Promise<string[]> => {
    const { value } = (await news.next()) as { value: ServiceNews | undefined };
    if (!value) return ['end'];
    return [...value.events.map(({ type, object }) => `${type} ${idOf(object)}`), ...(value.isListed ? ['open'] : [])];
  };
  /** The pause begins some promises later. */
  const pass = async (): Promise<number> => {
    while (!state.pause) await new Promise(setImmediate);
    const { delayMs, work } = state.pause;
    work();
    return delayMs;
  };
  return { state, leaving, next, pass };
}

t.test('what there is, and then each that has changed, come or gone', async (t) => {
  const there = new Map([
    ['a', named('a')],
    ['b', named('b', { namespace: 'shop' })],
  ]);
  const { next, pass } = lab(there);
  t.same(await next(), ['ADDED a', 'ADDED shop/b', 'open']);
  const first = next();
  t.equal(await pass(), 1000);
  await pass();
  const [backend] = service.backends;
  there.set('a', named('a', { backends: [{ ...backend!, connections: 7 }] }));
  await pass();
  t.same(await first, ['MODIFIED a'], 'looks without a change tell nothing');
  there.delete('b');
  there.set('c', named('c'));
  const second = next();
  await pass();
  t.same(await second, ['ADDED c', 'DELETED shop/b']);
  there.set('b', named('b', { namespace: 'shop' }));
  const third = next();
  await pass();
  t.same(await third, ['ADDED shop/b'], 'one that was deleted is new');
});

t.test('many come in parts; none is asked for before those in front were taken', async (t) => {
  const there = new Map(Array.from({ length: 150 }, (_, n) => [`s${n}`, named(`s${n}`)]));
  const { state, next, pass } = lab(there);
  t.equal((await next()).length, 64);
  there.set('s0', named('s0', { drainMs: 1 }));
  t.equal((await next()).length, 64);
  const last = await next();
  t.same([last.length, last.at(-1)], [23, 'open']);
  // The reader does not ask for more: there is no other look, and no pause that could end.
  for (let n = 0; n < 20; n++) await new Promise(setImmediate);
  t.same([state.looks, state.pause], [1, undefined]);
  const more = next();
  await pass();
  t.same(await more, ['MODIFIED s0']);
});

t.test('looks that take long are rare, but not too rare', async (t) => {
  const { state, next, pass } = lab(new Map([['a', named('a')]]));
  state.lookMs = 300;
  await next();
  const waiting = next();
  t.equal(await pass(), 2700);
  state.lookMs = 5000;
  await pass();
  t.equal(await pass(), 10_000);
  void waiting;
});

t.test('one that goes away ends it, while it waits too; one that is named may be deleted', async (t) => {
  const { state, leaving, next } = lab(new Map());
  t.same(await next(), ['open']);
  const waiting = next();
  while (!state.pause) await new Promise(setImmediate);
  leaving.abort();
  t.same(await waiting, ['end']);
  t.equal(state.pause, undefined, 'nothing is left to happen');

  let isThere = true;
  const list = (): AsyncIterable<ServiceReport> => {
    if (!isThere) throw new WeftError('not_found', 'there is no Service "a"');
    return (async function* () {
      yield named('a');
    })();
  };
  const clock = (): number => 0;
  const after = (_: number, work: () => void): (() => void) => {
    setImmediate(work);
    return () => {};
  };
  const news = watchServices({ clock, after }, list, new AbortController().signal);
  await news.next();
  isThere = false;
  t.same((await news.next()).value?.events, [{ type: 'DELETED', object: { name: 'a', namespace: 'default' } }]);
  await t.rejects(
    watchServices(
      { clock, after },
      () => {
        throw new Error('a defect');
      },
      new AbortController().signal,
    ).next(),
    { message: 'a defect' },
  );
});
