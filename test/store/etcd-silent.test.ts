/** A member that answers calls but is silent about watches. */
import t from 'tap';
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
