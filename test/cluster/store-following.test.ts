/** How a shared store is read and watched: what arrives when it no longer counts, and who leads on from each state. */
import t from 'tap';
import { FeedMonitor } from '../../src/cluster/feed/feed-monitor.ts';
import { StoreFollowing, type Judged } from '../../src/cluster/feed/store-following.ts';
import type { Listing, Store, WatchEvent } from '../../src/store/store.ts';

/** A store whose listings the test answers. */
class Asked {
  readonly answers: { readonly resolve: (listing: Listing) => void; readonly reject: (error: Error) => void }[] = [];
  readonly stopped: number[] = [];
  tell: (event: WatchEvent) => void = () => {};
  readonly store = {
    list: () => new Promise<Listing>((resolve, reject) => this.answers.push({ resolve, reject })),
    watch: (_: string, from: number, listener: (event: WatchEvent) => void) => {
      this.tell = listener;
      return () => void this.stopped.push(from);
    },
  } as unknown as Store;

  async answer(at: number, revision: number): Promise<void> {
    this.answers[at]!.resolve({ revision, history: 'one', entries: [], known: [] });
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function open() {
  const asked = new Asked();
  const log: string[] = [];
  const following = new StoreFollowing({
    store: asked.store,
    least: () => 0,
    knownKey: () => undefined,
    onNews: () => void log.push('news'),
    onTold: () => {},
    onRead: () => {},
    onUnread: () => void log.push('unread'),
    onWatching: (revision) => void log.push(`watching ${revision}`),
  });
  const take = (judge: (revision: number) => Judged = (revision) => ({ revision })): Promise<void> =>
    following.take(async ({ listing }) => judge(listing.revision));
  return { asked, log, following, take };
}

t.test('track that is lost while the store is read makes it be read once more', async (t) => {
  const { asked, log, following, take } = open();
  void following.read();
  following.lose();
  following.lose();
  t.equal(asked.answers.length, 1, 'one at a time');
  await asked.answer(0, 5);
  t.same([log, following.why], [[], 'it is being read']);
  await asked.answer(1, 6);
  await take();
  t.same(log, ['news', 'watching 6']);
  t.equal(following.why, undefined);
});

t.test('what was read before is void when all is read anew', async (t) => {
  const { asked, log, following, take } = open();
  void following.read();
  void following.read();
  await asked.answer(0, 5);
  t.equal(following.why, 'it is being read');
  await asked.answer(1, 6);
  following.lose();
  await take();
  t.same(log, ['news'], 'nothing to judge');
  await asked.answer(2, 7);
  await take();
  t.same(log, ['news', 'news', 'watching 7']);
});

t.test('what a watch or an audit says after track was lost is void', async (t) => {
  const { asked, following, take } = open();
  void following.read();
  await asked.answer(0, 5);
  await take();
  void following.audit();
  const { tell } = asked;
  tell({ kind: 'changes', revision: 6, changes: [] });
  t.equal(following.told, 6);
  tell({ kind: 'compacted' });
  t.same(asked.stopped, [6]);
  tell({ kind: 'changes', revision: 7, changes: [] });
  tell({ kind: 'compacted' });
  t.equal(asked.answers.length, 3);
  await asked.answer(2, 8);
  t.equal(following.takeEvent()?.revision, 6, 'what it reported before counts');
  t.equal(following.takeEvent(), undefined);
  await take();
  await asked.answer(1, 5);
  t.equal(following.takeAudited(), undefined);
  t.same([following.told, following.isWatching], [8, true]);
  void following.audit();
  void following.audit();
  t.equal(asked.answers.length, 4, 'one audit at a time');
  await asked.answer(3, 8);
  t.equal(following.takeAudited()?.revision, 8);
  t.equal(following.takeAudited(), undefined);
});

t.test('each state leads on', async (t) => {
  const { asked, log, following, take } = open();
  following.tick(false);
  t.equal(asked.answers.length, 0);
  following.tick(true);
  asked.answers[0]!.reject(new Error('no answer'));
  await following.reading;
  t.same([following.why, log.splice(0)], ['no answer', ['unread', 'news']]);
  following.tick(true);
  await asked.answer(1, 5);
  log.length = 0;
  following.tick(false);
  t.same(log.splice(0), ['news'], 'what was read is told until somebody takes it');
  await t.rejects(
    take(() => {
      throw new Error('a defect');
    }),
    { message: 'a defect' },
  );
  t.equal(following.why, 'what was read could not be compared');
  following.tick(true);
  await asked.answer(2, 6);
  await take(() => ({ why: 'it is another cluster' }));
  t.equal(following.why, 'it is another cluster');
  following.tick(true);
  await asked.answer(3, 7);
  await take(() => 'again');
  t.equal(following.why, 'it is being read');
  await asked.answer(4, 8);
  await take(() => {
    following.lose();
    return { revision: 8 };
  });
  t.equal(following.why, 'it is being read');
  await asked.answer(5, 9);
  await take();
  t.ok(following.isWatching);
  following.close();
  t.same(asked.stopped, [10]);
});

t.test('a watch that reports anything is not dead, however far it is behind', (t) => {
  let told = 0;
  const log: string[] = [];
  const note = (_: object, message: string): void => void log.push(message);
  const monitor = new FeedMonitor({
    wallClock: () => 0,
    logger: { info: note, warn: note, error: note },
    told: () => told,
    made: () => 1000,
    isStored: () => true,
  });
  for (told = 1; told <= 50; told++) t.equal(monitor.tick(undefined, true), undefined);
  const silent = Array.from({ length: 11 }, () => monitor.tick(undefined, true));
  t.same(silent.indexOf('read'), 10);
  told = 1000;
  for (let tick = 0; tick < 50; tick++) t.equal(monitor.tick(undefined, true), undefined);
  t.equal(log.length, 1);
  t.end();
});
