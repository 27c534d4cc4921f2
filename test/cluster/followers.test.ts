/** Those who follow resources: every change once, in order, with nothing between the list and the changes. */
import t, { type Test } from 'tap';
import { Cluster } from '../../src/cluster/cluster.ts';
import { Declarations } from '../../src/cluster/declarations.ts';
import { LocalFeed } from '../../src/cluster/feed/local-feed.ts';
import type { Stored } from '../../src/cluster/reconciler.ts';
import { kinds } from '../../src/model/kinds/registry.ts';
import { NAMESPACE_NAME } from '../../src/model/kinds/namespace.ts';
import type { Resource, ResourceEvent } from '../../src/model/resource.ts';
import { kind } from '../support/switch.ts';
import { Random } from '../support/random.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

/** Calls `between` when a change is known already, and not told yet. */
class Slow extends Declarations {
  readonly #between: () => void;

  constructor(kind: string, between: () => void) {
    super(kind);
    this.#between = between;
  }

  override async put(stored: readonly Stored[]): Promise<void> {
    await super.put(stored);
    this.#between();
  }

  override async remove(names: readonly string[]): Promise<void> {
    await super.remove(names);
    this.#between();
  }
}

type Plane = Awaited<ReturnType<typeof openControlPlane>>;

const team = (name: string, labels: Record<string, string>): Resource => manifest('Namespace', name, {}, { labels });

/** Without the one that each namespace has by itself. */
const ownLabels = ({ [NAMESPACE_NAME]: _, ...labels }: Readonly<Record<string, string>>) => labels;
/** Says of each event what it is about, `ADDED a {"n":"1"}`. */
function follow(t: Test, { cluster }: Plane, wants: (resource: Resource) => boolean = () => true) {
  const events: string[] = [];
  let ends = 0;
  const text = ({ type, object: { metadata } }: ResourceEvent): string =>
    `${type} ${metadata.name} ${JSON.stringify(ownLabels(metadata.labels))}`;
  const { listing, stop } = cluster.followers.follow(kind('ns'), {
    wants,
    onEvent: (event) => events.push(text(event)),
    onEnd: () => ends++,
  });
  t.teardown(stop);
  return { events, listed: () => [...listing].map(({ metadata }) => metadata.name), stop, ends: () => ends };
}

t.test('what there is, then added, changed and deleted', async (t) => {
  const plane = await openControlPlane(t);
  const { cluster } = plane;
  await cluster.apply([team('b', {}), team('a', {})]);
  const { events, listed } = follow(t, plane);
  t.same(listed(), ['a', 'b', 'default']);
  await cluster.apply([team('c', { n: '1' })]);
  await cluster.apply([team('a', { n: '2' }), team('b', {})]);
  await cluster.label(kind('ns'), { name: 'c' }, { n: '3' });
  await cluster.delete(kind('ns'), { name: 'c' });
  await plane.write({ 'namespaces/a': undefined });
  t.same(events, [
    'ADDED c {"n":"1"}',
    'MODIFIED a {"n":"2"}',
    'MODIFIED c {"n":"3"}',
    'DELETED c {"n":"3"}',
    'DELETED a {"n":"2"}',
  ]);
});

t.test('one that is no longer selected is gone, and comes back', async (t) => {
  const plane = await openControlPlane(t);
  const { cluster } = plane;
  await cluster.apply([team('a', { app: 'web' }), team('b', {})]);
  const { events, listed } = follow(t, plane, ({ metadata }) => metadata.labels['app'] === 'web');
  t.same(listed(), ['a']);
  await cluster.label(kind('ns'), { name: 'a' }, { app: 'db' });
  await cluster.label(kind('ns'), { name: 'a' }, { x: 'y' });
  await cluster.label(kind('ns'), { name: 'b' }, { app: 'web' });
  await cluster.delete(kind('ns'), { name: 'a' });
  t.same(events, ['DELETED a {"app":"db"}', 'ADDED b {"app":"web"}']);
});

t.test('nobody is told after the end, and all learn that the switch stops', async (t) => {
  const plane = await openControlPlane(t);
  const { cluster } = plane;
  const stopped = follow(t, plane);
  const other = follow(t, plane);
  stopped.stop();
  await cluster.apply([team('a', {})]);
  t.same(stopped.events, []);
  t.equal(other.events.length, 1);
  await plane.close();
  t.equal(other.ends(), 1);
  t.equal(stopped.ends(), 0);
});

t.test('followers that begin at any time see every change exactly once', async (t) => {
  const seed = Number(process.env['SEED'] ?? 20_261_126);
  t.comment(`seed ${seed}`);
  const random = new Random(seed);
  /** What each follower knows: the list, then the events, one after the other. */
  const followers: { readonly known: Map<string, string>; readonly wrong: string[] }[] = [];
  const begin = (): void => {
    const known = new Map<string, string>();
    const wrong: string[] = [];
    const { listing, stop } = cluster.followers.follow(kind('ns'), {
      wants: () => true,
      onEvent: ({ type, object }) => {
        const { name } = object.metadata;
        const text = JSON.stringify(object);
        const before = known.get(name);
        const isRight =
          type === 'ADDED' ? before === undefined : before !== undefined && (type === 'DELETED' || before !== text);
        if (!isRight) wrong.push(`${type} ${text}, known ${before}`);
        if (type === 'DELETED') known.delete(name);
        else known.set(name, text);
      },
      onEnd: () => {},
    });
    t.teardown(stop);
    // At once: what comes later is an event.
    for (const resource of listing) known.set(resource.metadata.name, JSON.stringify(resource));
    followers.push({ known, wrong });
  };
  const maybeBegin = (): void => {
    if (random.chance(0.2)) begin();
  };
  const store = await openStore(t);
  const cluster = new Cluster({
    hostName: 'here',
    feed: new LocalFeed(store),
    reconcilers: new Map(kinds.map((one) => [one.kind, new Slow(one.kind, maybeBegin)])),
    ...{
      registers: [],
      onEnforced: async () => {},
      check: async () => {},
      prepare: async () => {},
      onApplied: async () => {},
    },
    after: () => () => {},
    wallClock: () => 0,
    logger: { info: () => {}, warn: () => {}, error: (_, message) => t.fail(message) },
  });
  await cluster.serial.run(() => cluster.start());
  t.teardown(() => cluster.close());
  for (let n = 0; n < 150; n++) {
    const some = new Set(Array.from({ length: 1 + random.int(8) }, () => `ns-${random.int(12)}`));
    const gone = [...some].filter(() => random.chance(0.3));
    const put = [...some].filter((name) => !gone.includes(name));
    await store.transact({
      put: put.map((name) => ({
        key: `namespaces/${name}`,
        value: { resource: team(name, { n: String(n) }) },
      })),
      delete: gone.map((name) => `namespaces/${name}`),
    });
    maybeBegin();
    await cluster.serial.run(() => cluster.enforce());
  }
  const there = new Map(cluster.get(kind('ns')).map((resource) => [resource.metadata.name, JSON.stringify(resource)]));
  t.ok(followers.length > 10, `${followers.length} followers`);
  for (const { known, wrong } of followers) {
    t.same(wrong, []);
    t.same(Object.fromEntries(known), Object.fromEntries(there));
  }
});
