/** A member whose answers make no sense: what was asked fails and says so, and nothing crashes, hangs or grows. */
import { createServer, type AddressInfo } from 'node:net';
import { status } from '@grpc/grpc-js';
import t from 'tap';
import type { WeftError } from '../../src/error.ts';
import { Failure, whyText } from '../../src/store/etcd/failure.ts';
import { isUnanswered } from '../../src/store/store.ts';
import type { Etcd } from '../support/etcd.ts';
import { openStoreOf } from '../support/etcd-store.ts';
import { falseMember, header, messageOf, type Answers } from '../support/false-member.ts';
import { until } from '../support/process.ts';

t.setTimeout(120_000);

const limits = { callMs: 1000, answerMs: 100, silenceMs: 100 };
const garbage = Buffer.from('0a0012ffffffff0f00', 'hex');
const cut = Buffer.from('12020a05', 'hex');
const entry = { key: Buffer.from('weft/k'), value: Buffer.from('1'), modRevision: 5 };

async function begin(t: Parameters<typeof falseMember>[0], answers: Answers) {
  const { etcd, watches } = await falseMember(t, answers);
  const store = openStoreOf(etcd, { limits });
  t.teardown(() => store.close());
  return { store, watches };
}

await t.test('one that is not etcd', async (t) => {
  const { store } = await begin(t, { range: () => garbage });
  const nonsense = /: its answer makes no sense: something else than etcd may listen there$/;
  await t.rejects(store.list(''), { code: 'unreachable', message: nonsense });
  t.match(store.health(), { isReachable: false, why: nonsense });
});

await t.test('one that speaks another protocol: its message is the same each time', async (t) => {
  for (const [what, answer] of [
    ['HTTP/1', 'HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n'],
    ['SSH', 'SSH-2.0-OpenSSH_9.2p1\r\n'],
  ] as const) {
    let connections = 0;
    const server = createServer((socket) => {
      connections++;
      socket.on('error', () => {});
      socket.once('data', () => socket.end(answer));
    });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    t.teardown(() => server.close());
    const member = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const store = openStoreOf({ members: [{ clientAddress: member }] } as unknown as Etcd, { limits });
    t.teardown(() => store.close());
    const messages = new Set<string>();
    await until(
      async () => {
        messages.add(((await store.list('').catch((error: unknown) => error)) as WeftError).message);
        return connections > 2;
      },
      { what: 'the third attempt' },
    );
    messages.delete('etcd cannot be reached: not connected yet');
    const why = 'its answer makes no sense: something else than etcd may listen there';
    t.same([...messages], [`etcd cannot be reached: ${member}: ${why}`], what);
  }
  const text = 'No connection established. Last error: Anything (2026-11-28T18:58:23.477Z). Resolution note: ';
  const access = { prefix: 'weft/', user: undefined, tls: undefined };
  t.equal(whyText(new Failure(status.UNAVAILABLE, text), access), 'Anything', 'whatever it is');
});

await t.test('one that answers well until it is asked for a list', async (t) => {
  for (const [what, code, list] of [
    ['garbage', 'unreachable', garbage],
    [
      'a revision that nobody can compute with',
      'unreachable',
      messageOf('RangeResponse', { header: { revision: String(2n ** 62n) } }),
    ],
    ['an entry that ends too early', 'unreachable', Buffer.concat([messageOf('RangeResponse', { header }), cut])],
    ['more than there is', 'system', messageOf('RangeResponse', { header, more: true })],
    ['the same again and again', 'system', messageOf('RangeResponse', { header, kvs: [entry], more: true })],
    [
      'too much',
      'exhausted',
      messageOf('RangeResponse', { header, kvs: [{ ...entry, value: Buffer.alloc(17 << 20) }] }),
    ],
  ] as const) {
    const well = messageOf('RangeResponse', { header });
    // Only a list has a limit.
    const { store } = await begin(t, { range: ({ limit }) => (limit === undefined ? well : list) });
    const error = (await store.list('').catch((error: unknown) => error)) as WeftError;
    t.equal(error.code, code, what);
    t.match(error.message, /no sense|larger than max/, what);
  }
});

await t.test('the value of an entry that is known is neither asked for nor looked at', async (t) => {
  const kvs = ['a', 'b', 'c'].map((name, at) => ({
    key: Buffer.from(`weft/${name}`),
    value: Buffer.from('{}'),
    modRevision: at + 3,
  }));
  const asked: string[] = [];
  const range: Answers['range'] = ({ key, rangeEnd, keysOnly, limit }) => {
    if (limit !== undefined) asked.push(`${keysOnly ? 'keys ' : ''}${text(key)}..${text(rangeEnd!)}`);
    const from = kvs.filter((one) => Buffer.compare(one.key, key) >= 0);
    return messageOf('RangeResponse', { header, kvs: keysOnly ? from.map(({ value: _, ...one }) => one) : from });
  };
  const text = (key: Uint8Array): string => JSON.stringify(Buffer.from(key).toString());
  const { store } = await begin(t, { range });
  const { parse } = JSON;
  const parsed: string[] = [];
  t.teardown(() => (JSON.parse = parse));
  JSON.parse = (text, reviver) => {
    parsed.push(text);
    return parse(text, reviver) as unknown;
  };
  const { entries, known } = await store.list('', undefined, (key, revision) =>
    key !== 'c' && revision !== 4 ? key : undefined,
  );
  t.same(asked, ['keys "weft/".."weft0"', '"weft/b".."weft/c\\u0000"']);
  t.same(parsed, ['{}', '{}']);
  t.same(known, ['a']);
  t.same(entries, [
    { key: 'b', value: {}, revision: 4 },
    { key: 'c', value: {}, revision: 5 },
  ]);
});

await t.test('entries far apart that are not known are asked for without what is between them', async (t) => {
  const kvs = Array.from({ length: 1000 }, (_, n) => ({
    key: Buffer.from(`weft/${String(n).padStart(3, '0')}`),
    value: Buffer.from(String(n)),
    modRevision: n + 3,
  }));
  // There are 99 known ones between the first two, 100 before the third.
  const unknown = new Set(['000', '100', '201', '999']);
  const sent: number[] = [];
  const range: Answers['range'] = ({ key, rangeEnd, keysOnly, limit }) => {
    if (limit === undefined) return messageOf('RangeResponse', { header });
    const within = kvs.filter((one) => Buffer.compare(one.key, key) >= 0 && Buffer.compare(one.key, rangeEnd!) < 0);
    if (!keysOnly) sent.push(within.length);
    return messageOf('RangeResponse', { header, kvs: keysOnly ? within.map(({ value: _, ...one }) => one) : within });
  };
  const { store } = await begin(t, { range });
  const { entries, known } = await store.list('', undefined, (key) => (unknown.has(key) ? undefined : key));
  t.same(
    entries.map(({ key, value }) => [key, value]),
    [...unknown].map((key) => [key, Number(key)]),
  );
  t.equal(known.length, kvs.length - unknown.size);
  t.same(sent, [101, 1, 1]);
});

await t.test('one whose transactions fail for no reason, or cannot be read', async (t) => {
  const failed = messageOf('TxnResponse', { header, responses: [{ responseRange: { kvs: [entry] } }] });
  const made = { expect: [{ key: 'k', revision: 5 }], put: [{ key: 'k', value: 1 }] };
  const { store } = await begin(t, { transaction: () => failed });
  await t.rejects(store.transact(made), { code: 'system', message: /no sense: a transaction failed although/ });
  const { store: other } = await begin(t, { transaction: () => garbage });
  t.ok(await other.transact(made).catch(isUnanswered), 'it may have been made');
});

await t.test('one whose watch and keepalive stream are garbage', async (t) => {
  const created = messageOf('WatchResponse', { header, created: true });
  for (const [what, events] of [
    ['garbage', garbage],
    ['an event without an entry', messageOf('WatchResponse', { header, events: [{}] })],
  ] as const) {
    const { store, watches } = await begin(t, {
      watch: (_, send) => {
        send(created);
        send(events);
      },
      keepAlive: (send) => send(garbage),
    });
    store.watch('', 8, () => t.fail('it tells something'));
    await until(() => watches() >= 3, { what: `three attempts after ${what}` });
    await t.rejects(store.keepAlive('1'), { code: 'unreachable' });
  }
});
