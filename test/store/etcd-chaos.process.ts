/**
 * The clients of the chaos (etcd-chaos.ts), in a namespace of their own: two writers, two followers and the holder of a
 * lease. It prints what happens as JSON lines, stops at the end of its standard input, and says what was wrong.
 *
 *   node --import=tsx etcd-chaos.process.ts SEED ENDPOINT…
 */
import type { WeftError } from '../../src/error.ts';
import { isUnanswered, type Store } from '../../src/store/store.ts';
import { openStoreOf } from '../support/etcd-store.ts';
import { Follower } from '../support/follower.ts';
import { until } from '../support/process.ts';
import { Random } from '../support/random.ts';

export interface Told {
  /** Transactions that were made. */
  readonly made: number;
  /** Those that were refused because etcd did not answer. */
  readonly refused: number;
  readonly lists: number;
}

export interface Outcome extends Told {
  readonly faults: readonly string[];
  readonly unanswered: number;
  readonly told: number;
}

const KEYS = 20;
const TTL_MS = 15_000;
const endpoints = process.argv.slice(3);
const random = new Random(Number(process.argv[2]));
const faults: string[] = [];
/** The transactions that were made, by revision, and those that may have been made: their marks. */
const made = new Map<number, string>();
const unanswered = new Set<string>();
let refused = 0;
let isOver = false;

const etcd = { members: endpoints.map((clientAddress) => ({ clientAddress })), certificates: undefined } as never;
const stores = Array.from({ length: 4 }, () => openStoreOf(etcd));
const [writing, other, following, another] = stores as [Store, Store, Store, Store];

async function write(store: Store, name: string): Promise<void> {
  for (let n = 0; !isOver; n++) {
    const mark = `${name}${n}`;
    const keys = [...new Set(Array.from({ length: 1 + random.int(4) }, () => `k/${random.int(KEYS)}`))];
    try {
      const expected = random.chance(0.5) ? await store.get(keys[0]!) : undefined;
      const put = keys.filter(() => random.chance(0.7)).map((key) => ({ key, value: mark }));
      put.push({ key: `k/${name}`, value: mark });
      const deleted = keys.filter((key) => !put.some((one) => one.key === key));
      const expect = expected ? [{ key: keys[0]!, revision: expected.revision }] : [];
      // Whatever happens to the answer, it happens at most once.
      made.set(await store.transact({ expect, put, delete: deleted }), mark);
    } catch (error) {
      if (isUnanswered(error)) unanswered.add(mark);
      const { code } = error as WeftError;
      if (code === 'unreachable') refused++;
      else if (code !== 'conflict') faults.push(`a write failed: ${String(error)}`);
      if (code === 'unreachable') await new Promise((resolve) => setTimeout(resolve, 50));
    }
    say();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function hold(store: Store): Promise<void> {
  const lease = await until(() => store.grant(TTL_MS).catch(() => undefined), { what: 'a lease' });
  const value = 'held';
  await until(() => store.transact({ put: [{ key: 'lease/held', value, lease }] }).catch(() => undefined), {
    what: 'its entry',
  });
  while (!isOver) {
    const error = await store.keepAlive(lease).then(
      () => undefined,
      (error: unknown) => error as WeftError,
    );
    if (error && error.code !== 'unreachable') return void faults.push(`the lease: ${error.message}`);
    await new Promise((resolve) => setTimeout(resolve, error ? 100 : TTL_MS / 10));
  }
  const held = await until(() => store.list('lease/').catch(() => undefined), { what: 'a list' });
  if (held.entries.length !== 1) faults.push('what the lease holds is gone');
}

function say(): void {
  const lists = followers.reduce((sum, { listings }) => sum + listings.length, 0);
  process.stdout.write(`${JSON.stringify({ made: made.size, refused, lists })}\n`);
}

/** Every transaction that was made is told once, and nothing else; nothing is left out but between two lists. */
function check(follower: Follower, name: string): void {
  faults.push(...follower.faults.map((fault) => `${name}: ${fault}`));
  const marks = new Map<number, string>();
  const seen = new Set<string>();
  for (const { revision, key, value } of follower.told) {
    if (!/^k\/[ab]$/.test(key)) continue;
    const mark = value as string;
    if (seen.has(mark)) faults.push(`${name}: ${mark} was made or told twice`);
    seen.add(mark);
    marks.set(revision, mark);
    if (made.get(revision) !== mark && !unanswered.has(mark)) faults.push(`${name}: ${mark} at ${revision} is unknown`);
  }
  const toldAt = follower.told.map(({ revision }) => revision);
  for (const [revision, mark] of made) {
    if (marks.get(revision) === mark) continue;
    // Then it is in a list that was made before the next one was told.
    const next = toldAt.find((at) => at > revision) ?? Infinity;
    const isListed = follower.listings.some((listing) => listing.revision >= revision && listing.revision < next);
    if (!isListed) faults.push(`${name}: ${mark} at ${revision} was never told`);
  }
}

const followers = [new Follower(following, ''), new Follower(another, '')];
await Promise.all(followers.map((follower) => follower.start()));
const working = [write(writing, 'a'), write(other, 'b'), hold(following)];
process.stdin.resume();
await new Promise((resolve) => process.stdin.once('end', resolve));
isOver = true;
await Promise.all(working);
const last = await until(() => writing.transact({ put: [{ key: 'end', value: 1 }] }).catch(() => undefined), {
  what: 'the last write',
});
await until(() => followers.every((follower) => follower.last >= last), { what: 'followers at the end' });
const { entries } = await writing.list('');
const expected = JSON.stringify(entries.map(({ key, value }) => [key, value]));
for (const [at, follower] of followers.entries()) {
  const name = `follower ${at}`;
  const found = JSON.stringify([...follower.entries].sort(([a], [b]) => (a < b ? -1 : 1)));
  if (found !== expected) faults.push(`${name} has ${found}, and etcd ${expected}`);
  check(follower, name);
  follower.end();
}
await Promise.all(stores.map((store) => store.close()));
const outcome: Outcome = {
  made: made.size,
  refused,
  unanswered: unanswered.size,
  lists: followers.reduce((sum, { listings }) => sum + listings.length, 0),
  told: followers.reduce((sum, { told }) => sum + told.length, 0),
  faults: faults.slice(0, 20),
};
process.stdout.write(`${JSON.stringify({ outcome })}\n`);
