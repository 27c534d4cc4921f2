/** The order and the effect of active checks, with a clock, a network and chance that the test decides. */
import t from 'tap';
import { HealthChecker, type CheckTarget } from '../../src/health/checker.ts';
import { Random } from '../support/random.ts';

/** Timers that fire when the test lets time pass. */
class Clock {
  nowMs = 0;
  timers: { readonly atMs: number; readonly action: () => void }[] = [];

  after = (ms: number, action: () => void): (() => void) => {
    const timer = { atMs: this.nowMs + ms, action };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((one) => one !== timer);
    };
  };

  passTo(ms: number): void {
    for (;;) {
      const [next] = this.timers.filter(({ atMs }) => atMs <= ms).sort((a, b) => a.atMs - b.atMs);
      if (!next) break;
      this.nowMs = next.atMs;
      this.timers = this.timers.filter((one) => one !== next);
      next.action();
    }
    this.nowMs = ms;
  }
}

interface UnderWay {
  readonly id: string;
  readonly atMs: number;
  readonly done: (failure?: string) => void;
}

function bench({ mostAtOnce = 8, random = () => 0.5 }: { mostAtOnce?: number; random?: () => number } = {}) {
  const clock = new Clock();
  const changes: string[] = [];
  let underWay: UnderWay[] = [];
  let began = 0;
  const checker = new HealthChecker({
    after: clock.after,
    random,
    mostAtOnce,
    onChange: (id, state, why) => changes.push(`${id} ${state}${why === '' ? '' : `: ${why}`}`),
    dial: ({ id }, done) => {
      const one = { id, atMs: clock.nowMs, done };
      underWay.push(one);
      began++;
      return () => {
        underWay = underWay.filter((other) => other !== one);
      };
    },
  });
  return {
    clock,
    checker,
    changes,
    under: () => underWay.map(({ id }) => id),
    began: () => began,
    /** Lets time pass until a check of the target is under way. */
    begin: (id: string): void => {
      while (!underWay.some((one) => one.id === id)) clock.passTo(Math.min(...clock.timers.map(({ atMs }) => atMs)));
    },
    /** Ends the check of a target. @returns when it began */
    answer: (id: string, failure?: string): number => {
      const one = underWay.find((other) => other.id === id)!;
      underWay = underWay.filter((other) => other !== one);
      one.done(failure);
      return one.atMs;
    },
  };
}

const target = (id: string, more: Partial<CheckTarget> = {}): CheckTarget => ({
  ...{ id, owner: id, address: '10.0.0.1', l4Port: 80, type: 'tcp', path: '/' },
  ...{ intervalMs: 10_000, timeoutMs: 1000, failures: 3, successes: 2 },
  ...more,
});

t.test('the first result decides, then only several in a row', async (t) => {
  const { checker, changes, begin, answer } = bench();
  checker.set(target('a'));
  t.same(checker.report('a'), { state: 'unknown', failure: '', inARow: 0 });
  const results = ['refused', undefined, 'refused', undefined, undefined, 'x', 'y', undefined, 'x', 'y', 'z'];
  const states = results.map((failure) => {
    begin('a');
    answer('a', failure);
    return checker.report('a')!.state;
  });
  const [healthy, unhealthy] = ['healthy', 'unhealthy'];
  t.same(states, [
    ...[unhealthy, unhealthy, unhealthy, unhealthy, healthy],
    ...[healthy, healthy, healthy, healthy, healthy, unhealthy],
  ]);
  t.same(changes, ['a unhealthy: refused', 'a healthy', 'a unhealthy: z']);
  t.same(checker.report('a'), { state: 'unhealthy', failure: 'z', inARow: 3 });

  checker.set(target('b'));
  begin('b');
  answer('b');
  t.equal(changes.at(-1), 'b healthy');
});

t.test('another reason is told once it came several times in a row', async (t) => {
  const { checker, changes, begin, answer } = bench();
  checker.set(target('a'));
  const check = (...results: (string | undefined)[]): void => {
    for (const failure of results) {
      begin('a');
      answer('a', failure);
    }
  };
  check('refused', 'status 500', 'status 501', 'status 500', 'status 501', 'status 501');
  t.same(changes, ['a unhealthy: refused'], 'one that changes each time is no news');
  check('status 501', 'status 501');
  t.same(changes.splice(0), ['a unhealthy: refused', 'a unhealthy: status 501']);
  check('refused', undefined, 'refused', 'refused');
  t.same(changes, []);
  check('refused');
  t.same(changes.splice(0), ['a unhealthy: refused'], 'nor does it take a result that says otherwise to begin again');
  check(undefined, undefined);
  t.same(changes, ['a healthy']);
});

t.test('a check that takes too long has failed, and is ended', async (t) => {
  const { clock, checker, changes, under } = bench();
  checker.set(target('a'));
  clock.passTo(500);
  t.same(under(), ['a']);
  clock.passTo(1499);
  t.same(changes, []);
  clock.passTo(1500);
  t.same(changes, ['a unhealthy: no answer within 1000 ms']);
  t.same(under(), []);
  t.equal(clock.timers.length, 1, 'only the next check is waited for');
});

t.test('checks begin at random times: the first soon, the others around the interval', async (t) => {
  let chance = 0;
  const { clock, checker, begin, answer } = bench({ random: () => chance });
  checker.set(target('a'));
  chance = 0.25;
  checker.set(target('b'));
  checker.set(target('quick', { intervalMs: 100 }));
  clock.passTo(300);
  chance = 0;
  t.equal(answer('a'), 0);
  chance = 0.999_999;
  t.equal(answer('b'), 250);
  t.equal(answer('quick'), 25, 'within the interval if that is short');
  begin('a');
  t.equal(answer('a'), 300 + 9000);
  begin('b');
  t.ok(Math.abs(answer('b') - (300 + 11_000)) < 1);
});

t.test('no more are under way than may be; the others wait for their turn, in order', async (t) => {
  const { clock, checker, changes, under, answer } = bench({ mostAtOnce: 2 });
  for (const id of ['a', 'b', 'c', 'd', 'e']) checker.set(target(id));
  clock.passTo(500);
  t.same(under(), ['a', 'b']);
  t.equal(checker.waiting, 3);
  answer('b');
  t.same(under(), ['a', 'c']);
  checker.remove('d');
  checker.remove('a');
  t.same(under(), ['c', 'e'], 'one that is removed makes room, whether it waits or not');
  clock.passTo(1500);
  t.same(under(), [], 'time begins when a check does');
  t.same(changes, ['b healthy', 'c unhealthy: no answer within 1000 ms', 'e unhealthy: no answer within 1000 ms']);
});

t.test('an owner whose checks wait for answers in vain leaves room for others', async (t) => {
  const { clock, checker, changes, under, answer } = bench({ mostAtOnce: 512 });
  const slow = { timeoutMs: 3_600_000, intervalMs: 3_600_000 };
  for (let n = 0; n < 1000; n++) checker.set(target(`hung-${n}`, { owner: 'hung', ...slow }));
  clock.passTo(1000);
  t.equal(under().length, 57);
  t.equal(checker.waiting, 1000 - 57);
  answer('hung-0');
  t.equal(under().length, 57, 'the next one follows');
  for (let owner = 0; owner < 30; owner++) {
    for (let n = 0; n < 100; n++) checker.set(target(`${owner}-${n}`, { owner: `${owner}`, ...slow }));
  }
  clock.passTo(2000);
  t.ok(under().length < 512, `${under().length} are under way`);
  checker.set(target('mine', { owner: 'mine' }));
  clock.passTo(3000);
  t.ok(under().includes('mine'));
  answer('mine', 'refused');
  t.same(changes, ['hung-0 healthy', 'mine unhealthy: refused']);
});

t.test('targets change, go and end', async (t) => {
  const { clock, checker, changes, under, answer, began } = bench();
  checker.set(target('a', { intervalMs: 3_600_000 }));
  clock.passTo(500);
  answer('a');
  checker.set(target('a', { intervalMs: 1000 }));
  t.equal(checker.report('a')!.state, 'healthy', 'other times change nothing');
  clock.passTo(1000);
  t.same(under(), ['a'], 'but they are in force at once');
  checker.set(target('a', { intervalMs: 1000 }));
  t.equal(began(), 2, 'the same again is nothing new');
  checker.set(target('a', { address: '10.0.0.2' }));
  t.same(under(), [], 'the check of another address ends');
  t.equal(checker.report('a')!.state, 'unknown');
  clock.passTo(1500);
  checker.remove('a');
  t.same(under(), []);
  t.equal(checker.report('a'), undefined);
  for (const id of ['a', 'b', 'c']) checker.set(target(id));
  clock.passTo(2000);
  checker.close();
  t.same([under(), clock.timers], [[], []], 'nothing is left');
  t.same(changes, ['a healthy']);

  const crowded = bench({ mostAtOnce: 1 });
  for (const id of ['a', 'b', 'c']) crowded.checker.set(target(id));
  crowded.clock.passTo(500);
  crowded.checker.close();
  t.equal(crowded.began(), 1, 'those that waited for their turn do not begin');
});

const seed = Date.now() % 2 ** 32;
t.test(`whatever happens, each target is checked, and never twice at a time (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const mostAtOnce = 3;
  const { clock, checker, under, answer, changes } = bench({ mostAtOnce, random: () => random.u32() / 2 ** 32 });
  const ids = Array.from({ length: 12 }, (_, n) => `t${n}`);
  const present = new Set<string>();
  /** Results in a row for each, and the state that follows from them, in the plainest way. */
  const twin = new Map<string, { results: boolean[]; state: string }>();
  const forget = (id: string): void => void twin.set(id, { results: [], state: 'unknown' });
  const see = (id: string, isSuccess: boolean): void => {
    const { results, state } = twin.get(id)!;
    results.push(isSuccess);
    const last = results.slice(isSuccess ? -2 : -3);
    const isEnough =
      results.length === 1 || (last.length === (isSuccess ? 2 : 3) && last.every((one) => one === isSuccess));
    twin.set(id, { results, state: isEnough ? (isSuccess ? 'healthy' : 'unhealthy') : state });
  };
  for (let step = 0; step < 20_000; step++) {
    const id = random.pick(ids);
    const what = random.int(100);
    if (what < 2) {
      checker.remove(id);
      present.delete(id);
    } else if (what < 6) {
      if (!present.has(id)) forget(id);
      // Their time is never up, so all results are those below.
      checker.set(target(id, { timeoutMs: 3_600_000 }));
      present.add(id);
    } else if (what < 60 && under().length > 0) {
      const one = random.pick(under());
      const isSuccess = random.chance(0.6);
      see(one, isSuccess);
      answer(one, isSuccess ? undefined : 'refused');
    } else {
      clock.passTo(clock.nowMs + random.int(600));
    }
    if (under().length > mostAtOnce || new Set(under()).size < under().length)
      t.fail(`step ${step}: ${under().join()}`);
    if (under().some((one) => !present.has(one))) t.fail(`step ${step}: a target that is gone`);
  }
  for (const one of present) t.equal(checker.report(one)!.state, twin.get(one)!.state, one);
  t.ok(changes.length > 100, `${changes.length} changes`);
  checker.close();
  t.same([under(), clock.timers, checker.waiting], [[], [], 0]);
});
