/**
 * A watch on a model of etcd, which is written, compacted, emptied and put back to earlier snapshots in any order, mostly
 * with the same cluster id, while sessions are lost and answers come late. Few keys have few values, so that two histories
 * often have the same change at the same revision. As the hosts do it, whoever is the first to write after a restore writes
 * the record that names the history. In the end, the follower of the watch has what etcd has.
 */
import t from 'tap';
import { EtcdWatch, type Anchor } from '../../src/store/etcd/watch.ts';
import { ModelEtcd } from '../support/model-etcd.ts';
import { Random } from '../support/random.ts';

const SEEDS = Number(process.env.SEEDS ?? 300);
const FIRST_SEED = Number(process.env.SEED ?? 1);
const STEPS = 80;
const NAME = 'format';
const LIMITS = { silenceMs: 1000, answerMs: 1000 };

/** Follows as the store does: it lists, and watches from there; a watch that is broken makes it list again. */
class Follower {
  readonly #etcd: ModelEtcd;
  readonly #isNamed: boolean;
  readonly #works = new Set<() => void>();
  #watch!: EtcdWatch;
  readonly values = new Map<string, string>();
  lists = 0;

  constructor(etcd: ModelEtcd, isNamed = true) {
    this.#etcd = etcd;
    this.#isNamed = isNamed;
    this.#list();
  }

  #list(): void {
    const { revision, name: history } = this.#etcd;
    const there = this.#etcd.at(revision);
    this.lists++;
    this.values.clear();
    for (const [key, { value }] of there) this.values.set(key, value);
    const anchorAt = (key: string): Anchor => {
      const entry = there.get(key);
      return { key: Buffer.from(key), entry: entry && { ...entry, value: Buffer.from(entry.value) } };
    };
    const [latest] = [...there].sort(([, a], [, b]) => b.revision - a.revision);
    this.#watch = new EtcdWatch({
      connection: this.#etcd.connection,
      prefix: '',
      skipped: 0,
      from: revision + 1,
      history,
      latest: latest && anchorAt(latest[0]),
      name: this.#isNamed ? anchorAt(NAME) : undefined,
      limits: LIMITS,
      after: (_, work) => {
        this.#works.add(work);
        return () => void this.#works.delete(work);
      },
      random: () => 0,
      givenUp: new Map(),
      onChanges: (at, changes) => {
        for (const { key } of changes) {
          const value = this.#etcd.at(at).get(key)?.value;
          if (value === undefined) this.values.delete(key);
          else this.values.set(key, value);
        }
      },
      onBroken: () => this.#list(),
    });
  }

  end(): void {
    this.#watch.end();
  }
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

async function settle(etcd: ModelEtcd): Promise<void> {
  for (let idle = 0; idle < 3; idle++) {
    while (etcd.answer()) idle = 0;
    await turn();
  }
}

async function trial(random: Random): Promise<string | undefined> {
  const etcd = new ModelEtcd();
  const steps: string[] = [];
  const snapshots: (readonly unknown[])[] = [];
  let names = 0;
  let isNamed = false;
  const write = (key: string, value: string | undefined): void => {
    if (!isNamed) etcd.write(NAME, `name-${++names}`);
    isNamed = true;
    etcd.write(key, value);
    steps.push(`${value === undefined ? 'delete' : 'put'} ${key} ${value ?? ''} at ${etcd.revision}`);
  };
  etcd.connect();
  const follower = new Follower(etcd);
  const step = (): void => {
    const choice = random.int(100);
    const key = random.pick(['a', 'b']);
    if (choice < 35) return write(key, random.pick(['1', '2']));
    if (choice < 55) return write(key, undefined);
    if (choice < 75) return void etcd.answer();
    steps.push(choice < 83 ? 'connect' : choice < 90 ? 'lose' : choice < 92 ? 'compact' : 'snapshot or restore');
    if (choice < 83) return etcd.connect();
    if (choice < 90) return etcd.lose();
    if (choice < 92) return etcd.compact();
    if (choice < 95) return void snapshots.push(etcd.snapshot());
    etcd.restore(random.chance(0.5) ? random.pick([[], ...snapshots]) : [], { sameId: random.chance(0.9) });
    isNamed = false;
  };
  for (let n = 0; n < STEPS; n++) {
    step();
    if (random.chance(0.5)) await turn();
  }
  etcd.connect();
  write('last', '1');
  await settle(etcd);
  follower.end();
  const has = textOf(follower.values);
  const stored = textOf(new Map([...etcd.at(etcd.revision)].map(([key, { value }]) => [key, value])));
  return has === stored ? undefined : [...steps, `it has ${has}`, `etcd has ${stored}`].join('\n');
}

function textOf(values: ReadonlyMap<string, string>): string {
  return [...values]
    .map(([key, value]) => `${key}=${value}`)
    .sort((a, b) => (a < b ? -1 : 1))
    .join(' ');
}

t.test('whatever happens to etcd, whoever follows the watch has what it has in the end', async (t) => {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const wrong = await trial(new Random(seed));
    if (wrong === undefined) continue;
    t.comment(wrong);
    t.fail(`seed ${seed}`);
    return;
  }
  t.pass(`seeds ${FIRST_SEED} to ${FIRST_SEED + SEEDS - 1}`);
});

for (const [what, write] of [
  ['an entry', (etcd: ModelEtcd) => void etcd.write('a', '2')],
  ['a deletion', (etcd: ModelEtcd) => void etcd.write('b', undefined)],
] as const) {
  t.test(`an etcd that was emptied and has as many revisions again, after ${what} was told`, async (t) => {
    const etcd = new ModelEtcd();
    for (const key of ['a', 'b', 'c']) etcd.write(key, '1');
    etcd.connect();
    const follower = new Follower(etcd, false);
    await settle(etcd);
    write(etcd);
    await settle(etcd);
    t.equal(follower.lists, 1);
    etcd.lose();
    etcd.connect();
    await settle(etcd);
    t.equal(follower.lists, 1, 'the same history goes on');
    etcd.restore();
    for (let n = 0; n < 6; n++) etcd.write('c', '1');
    etcd.connect();
    await settle(etcd);
    t.equal(follower.lists, 2, 'another one is listed');
    t.same([...follower.values], [['c', '1']]);
    follower.end();
  });
}
