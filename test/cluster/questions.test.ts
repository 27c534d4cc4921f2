/** Hosts ask each other: all answers come back, who gives none is named, and nothing stays in the store. */
import t, { type Test } from 'tap';
import {
  MOST_ANSWER_BYTES,
  MOST_QUESTION_BYTES,
  Questions,
  type Answers,
  type QuestionsEnvironment,
} from '../../src/cluster/membership/questions.ts';
import type { Entry, Store } from '../../src/store/store.ts';
import { within } from '../../src/store/within.ts';
import { Hooked } from '../support/switch.ts';
import { until } from '../support/process.ts';
import { openStore } from './control-plane.ts';

interface LabOptions {
  readonly answers?: Readonly<Record<string, QuestionsEnvironment['answer']>>;
  readonly others?: QuestionsEnvironment['others'];
  readonly mustWait?: Readonly<Record<string, string>>;
}

/** Three hosts, of which `a` asks. Time passes when the test says so. */
async function lab(t: Test, { answers = {}, others, mustWait = {} }: LabOptions = {}) {
  const store = within(await openStore(t), 'questions/');
  const waiting = new Set<() => void>();
  const entries = async (): Promise<readonly Entry[]> => (await store.list('')).entries;
  let made = 0;
  const open = (host: string, on: Store = store): Questions => {
    const questions = new Questions({
      ...{ store: on, host, newId: () => `q${made++}` },
      others:
        others ?? (() => ['a', 'b', 'c'].filter((name) => name !== host).map((name) => ({ name, why: undefined }))),
      mustWait: () => mustWait[host],
      after: (_, work) => {
        waiting.add(work);
        return () => waiting.delete(work);
      },
      answer: answers[host] ?? (async (question) => ({ host, question })),
    });
    t.teardown(() => questions.close());
    return questions;
  };
  const [a, b, c] = [open('a'), open('b'), open('c')];
  for (const one of [a, b, c]) await one.keep();
  /** Asks, and lets the time pass as soon as nothing else can come. */
  const ask = async (question: object, isDone: () => boolean | Promise<boolean>): Promise<Answers> => {
    const asking = a.ask(question);
    await until(isDone, { what: 'all have answered that do' });
    for (const late of [...waiting]) late();
    return asking;
  };
  return { store, entries, open, a, b, c, ask, waiting };
}
const never = async (): Promise<never> => new Promise(() => {});

t.test('all answer, and nothing is left', async (t) => {
  const { a, entries, waiting } = await lab(t);
  const { given, missing } = await a.ask({ what: 7 });
  t.same(Object.fromEntries(given), {
    b: { host: 'b', question: { what: 7 } },
    c: { host: 'c', question: { what: 7 } },
  });
  t.equal(missing.size, 0);
  t.same(await entries(), []);
  t.equal(waiting.size, 0, 'nobody waits any more');
  const [one, other] = await Promise.all([a.ask({ n: 1 }), a.ask({ n: 2 })]);
  t.match([one.given.get('b'), other.given.get('b')], [{ question: { n: 1 } }, { question: { n: 2 } }]);
  t.same(await entries(), []);
});

t.test('who does not answer is named', async (t) => {
  const { ask, entries } = await lab(t, { answers: { c: never } });
  const { given, missing } = await ask({}, async () => (await entries()).length === 2);
  t.same([...given.keys()], ['b']);
  t.same([...missing], [['c', 'it did not answer within 10 s']]);
  t.same(await entries(), []);
});

t.test('who is known not to answer is not waited for', async (t) => {
  const others = () => [
    { name: 'b', why: undefined },
    { name: 'c', why: 'it is down' },
  ];
  const { a } = await lab(t, { others, answers: { c: never } });
  const { given, missing } = await a.ask({});
  t.same([...given.keys()], ['b']);
  t.same([...missing], [['c', 'it is down']]);
  const alone = await lab(t, { others: () => [{ name: 'c', why: 'it is down' }] });
  t.same([...(await alone.a.ask({})).missing], [['c', 'it is down']]);
  t.same(await alone.entries(), []);
});

t.test('everything is under the lease of whoever asks, so that it goes when that one dies', async (t) => {
  const { a, entries, store, waiting } = await lab(t, { answers: { c: never } });
  const asking = a.ask({ what: 'dies' });
  await until(async () => (await entries()).length === 2, { what: 'b has answered' });
  const leases = new Set((await entries()).map(({ lease }) => lease));
  t.equal(leases.size, 1);
  const [lease] = leases;
  await store.revoke(lease!);
  t.same(await entries(), []);
  for (const late of [...waiting]) late();
  await asking;
});

t.test('an answer that comes too late is not stored', async (t) => {
  let release = (): void => {};
  const late = async (): Promise<object> => {
    await new Promise<void>((resolve) => (release = resolve));
    return {};
  };
  const { ask, entries } = await lab(t, { answers: { c: late } });
  const isAnswered = async (): Promise<boolean> => (await entries()).length === 2;
  await ask({}, isAnswered);
  release();
  const { given } = await ask({ next: true }, isAnswered);
  t.same([...given.keys()], ['b']);
  release();
  t.same(await entries(), []);
});

t.test('questions and answers are bounded, and a host that may not write says nothing', async (t) => {
  const { a, ask, entries } = await lab(t, { answers: { c: async () => ({ long: 'x'.repeat(MOST_ANSWER_BYTES) }) } });
  const { given, missing } = await ask({}, async () => (await entries()).length === 2);
  t.same([...given.keys()], ['b']);
  t.same([...missing.keys()], ['c']);
  const long = await a.ask({ long: 'x'.repeat(MOST_QUESTION_BYTES) });
  t.same(
    [...long.missing],
    [
      ['b', 'the change is too long to ask it'],
      ['c', 'the change is too long to ask it'],
    ],
  );
  const barred = await lab(t, { mustWait: { a: 'the store is another one' } });
  t.match(
    [...(await barred.a.ask({})).missing],
    [
      ['b', 'the store is another one'],
      ['c', 'the store is another one'],
    ],
  );
  const silent = await lab(t, { mustWait: { c: 'the store is another one' } });
  t.same([...(await silent.ask({}, async () => (await silent.entries()).length === 2)).missing.keys()], ['c']);
});

t.test('a host that begins to follow answers what is asked by then; what is no question is passed over', async (t) => {
  const { a, b, store, open, entries, waiting } = await lab(t, { answers: { c: never } });
  b.close();
  await store.transact({ put: [{ key: 'asked/other', value: { host: 'b' } }] });
  const asking = a.ask({ what: 8 });
  await until(async () => (await entries()).length === 2, { what: 'it is asked' });
  const again = open('b');
  await again.keep();
  await until(async () => (await entries()).length === 3, { what: 'b has answered' });
  for (const late of [...waiting]) late();
  t.match((await asking).given.get('b'), { question: { what: 8 } });
});

t.test('the store is away: nobody has answered, and asking does not fail', async (t) => {
  const { store, open } = await lab(t);
  const away = new Hooked(store);
  away.writesLeft = 0;
  t.same(
    [...(await open('a', away).ask({})).missing],
    [
      ['b', 'the store is gone'],
      ['c', 'the store is gone'],
    ],
  );
});
