/** A member that answers calls but is silent about watches or leases, or has no time. */
import { promises as dns } from 'node:dns';
import { status } from '@grpc/grpc-js';
import t from 'tap';
import type { WeftError } from '../../src/error.ts';
import { isUnanswered } from '../../src/store/store.ts';
import { openStoreOf } from '../support/etcd-store.ts';
import { falseMember, header, messageOf } from '../support/false-member.ts';
import { until } from '../support/process.ts';

t.setTimeout(60_000);

const limits = { answerMs: 100, silenceMs: 100 };

t.test('a watch whose creation is not answered is made again', async (t) => {
  const { etcd, watches } = await falseMember(t, {});
  const store = openStoreOf(etcd, { limits });
  t.teardown(() => store.close());
  store.watch('', 8, () => {});
  await until(() => watches() >= 3, { what: 'three attempts' });
});

t.test(
  'a watch that stays silent when it is asked for its progress is made again, one that answers is not',
  async (t) => {
    let asked = 0;
    const created = messageOf('WatchResponse', { header, created: true });
    const answering = await falseMember(t, {
      watch: ({ progressRequest }, send) => {
        if (progressRequest) asked++;
        send(progressRequest ? messageOf('WatchResponse', { header }) : created);
      },
    });
    const silent = await falseMember(t, {
      watch: ({ progressRequest }, send) => {
        if (!progressRequest) send(created);
      },
    });
    const [one, other] = [openStoreOf(answering.etcd, { limits }), openStoreOf(silent.etcd, { limits })];
    t.teardown(() => Promise.all([one.close(), other.close()]));
    one.watch('', 8, () => {});
    other.watch('', 8, () => {});
    await until(() => asked >= 3 && silent.watches() >= 3, { what: 'both to be asked' });
    // A machine that was busy for longer than the answer may take makes another one.
    t.ok(answering.watches() < asked, `${answering.watches()} watches, asked ${asked} times`);
  },
);

t.test('a watch that is behind and brings nothing twice is given up, the next one after a pause', async (t) => {
  const asked: boolean[] = [];
  let pauses = 0;
  /** Of another prefix, which is answered all the time: that says nothing about this one. */
  const answered = new Set<unknown>();
  const { etcd } = await falseMember(t, {
    range: () => messageOf('RangeResponse', { header: { ...header, revision: 9 } }),
    watch: ({ createRequest, progressRequest }, send) => {
      const isOther = createRequest !== undefined && Buffer.from(createRequest.key).toString().endsWith('questions/');
      if (isOther) answered.add(send);
      if (answered.has(send)) return send(messageOf('WatchResponse', { header, created: isOther }));
      if (createRequest) asked.push(createRequest.fragment ?? false);
      if (!progressRequest) send(messageOf('WatchResponse', { header, created: true }));
    },
  });
  const store = openStoreOf(etcd, {
    limits,
    random: () => 1,
    after: (delayMs, work) => {
      if (delayMs === 1000) pauses++;
      const timeout = setTimeout(work, delayMs);
      return () => clearTimeout(timeout);
    },
  });
  t.teardown(() => store.close());
  store.watch('questions/', 8, () => t.fail('the other one goes on'));
  const given: string[] = [];
  const watch = (): void => void store.watch('', 8, ({ kind }) => given.push(kind));
  watch();
  await until(() => given.length === 1, { what: 'the first to be given up' });
  t.same(given, ['compacted'], 'all is read again');
  t.equal(pauses, 0);
  t.same(asked, [false, true], 'as a whole, then in fragments');
  watch();
  await until(() => given.length === 2, { what: 'the second to be given up' });
  t.equal(asked.length, 4);
  t.equal(pauses, 1);
});

t.test('a lease is renewed on another stream if the first one is stuck', async (t) => {
  let streams = 0;
  const renewed = messageOf('LeaseKeepAliveResponse', { header, ID: 255, TTL: 15 });
  const { etcd } = await falseMember(t, {
    keepAlive: (send, stream) => {
      streams = stream;
      if (stream > 1) send(renewed);
    },
  });
  const store = openStoreOf(etcd, { limits: { callMs: 3000 } });
  t.teardown(() => store.close());
  await store.get('k');
  await store.keepAlive('ff');
  t.equal(streams, 2);
});

t.test('a member that has too much to do is asked again, until a call takes too long', async (t) => {
  let [count, hasTime] = [0, true];
  const made = messageOf('TxnResponse', { header, succeeded: true });
  const busy = { code: status.RESOURCE_EXHAUSTED, details: 'etcdserver: too many requests' };
  const { etcd } = await falseMember(t, { transaction: () => (++count % 4 === 0 && hasTime ? made : busy) });
  const store = openStoreOf(etcd);
  t.teardown(() => store.close());
  const transaction = { put: [{ key: 'k', value: 1 }] };
  t.equal(await store.transact(transaction), header.revision);
  t.equal(count, 4);
  hasTime = false;
  // The time of a call is over in the pause after some answers, whatever the machine does.
  const callMs = 60_000;
  const atEnd: (() => void)[] = [];
  const after = (delayMs: number, work: () => void): (() => void) => {
    if (delayMs === callMs) {
      atEnd.push(work);
      return () => {};
    }
    if (count >= 8) for (const end of atEnd.splice(0)) end();
    const timeout = setTimeout(work, delayMs);
    return () => clearTimeout(timeout);
  };
  const impatient = openStoreOf(etcd, { limits: { callMs }, after });
  t.teardown(() => impatient.close());
  const error = (await impatient.transact(transaction).catch((error: unknown) => error)) as WeftError;
  t.match(error, { code: 'unreachable', message: /: too many requests$/ });
  t.notOk(isUnanswered(error), 'it was not made');
});

t.test('of the addresses of one name, not always the same is taken', async (t) => {
  const alone = { code: status.UNAVAILABLE, details: 'etcdserver: no leader' };
  const { etcd } = await falseMember(t, { range: () => alone }, '127.0.0.2:0');
  const port = etcd.members[0]!.clientAddress.split(':')[1];
  await falseMember(t, {}, `127.0.0.3:${port}`);
  await falseMember(t, {}, `127.0.0.4:${port}`);
  const addresses = [2, 3, 4].map((last) => ({ address: `127.0.0.${last}`, family: 4 }));
  // gRPC asks there.
  const { lookup } = dns;
  t.teardown(() => Object.assign(dns, { lookup }));
  Object.assign(dns, { lookup: async () => addresses });
  const store = openStoreOf(etcd, { endpoints: [`etcd.example:${port}`] });
  t.teardown(() => store.close());
  await until(() => store.health().isReachable, { what: 'another member' });
});

t.test('a name whose servers are silent is looked up once, however many attempts there are', async (t) => {
  let [lookups, attempts] = [0, 0];
  let answer: (addresses: readonly object[]) => void = () => {};
  const { lookup } = dns;
  t.teardown(() => Object.assign(dns, { lookup }));
  const silent = new Promise<readonly object[]>((resolve) => (answer = resolve));
  Object.assign(dns, { lookup: () => (lookups++, silent) });
  const { etcd } = await falseMember(t, {});
  const store = openStoreOf(etcd, {
    endpoints: ['etcd.example:2379'],
    limits: { connectMs: 50 },
    after: (delayMs, work) => {
      if (delayMs === 50) attempts++;
      const timeout = setTimeout(work, Math.min(delayMs, 50));
      return () => clearTimeout(timeout);
    },
  });
  t.teardown(() => store.close());
  await until(() => attempts >= 5, { what: 'five attempts' });
  t.equal(lookups, 1);
  t.match(store.health(), { isReachable: false, why: 'etcd.example:2379: its name cannot be resolved' });
  answer([{ address: '127.0.0.1', family: 4 }]);
  await until(() => lookups > 1, { what: 'what comes after an answer' });
});
