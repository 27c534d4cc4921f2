/** Ejection of backends whose connections fail, by example and against a naive twin. */
import t from 'tap';
import { LONGEST_EJECTION_MS, OutlierPool } from '../../src/health/outlier.ts';
import type { OutlierSettings } from '../../src/table/service.ts';
import { Random } from '../support/random.ts';

const defaults: OutlierSettings = {
  failures: 3,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  mostEjectedPercent: 50,
  leastHealthyPercent: 0,
};

function poolOf(size: number, settings: Partial<OutlierSettings> = {}): OutlierPool<number> {
  const pool = new OutlierPool<number>({ ...defaults, ...settings });
  pool.setMembers(
    Array.from({ length: size }, (_, id) => id),
    0,
  );
  return pool;
}

/** May new connections go to it? */
function isUsable(pool: OutlierPool<number>, id: number): boolean {
  return pool.isPanic || pool.state(id)?.ejectedUntilMs === undefined;
}

/** Lets connections fail until the backend is ejected. */
function eject(pool: OutlierPool<number>, id: number, nowMs: number): number {
  for (let i = 1; i < defaults.failures; i++) pool.failed(id, 'reset', nowMs);
  return pool.failed(id, 'reset', nowMs) ? pool.state(id)!.ejectedUntilMs! - nowMs : 0;
}

t.test('failures in a row eject, and a connection that works begins the row again', async (t) => {
  const pool = poolOf(4);
  t.notOk(pool.failed(1, 'no answer', 0));
  t.notOk(pool.failed(1, 'reset', 1));
  pool.worked(1);
  t.notOk(pool.failed(1, 'unreachable', 2));
  t.notOk(pool.failed(1, 'reset', 3));
  t.ok(isUsable(pool, 1));
  t.ok(pool.failed(1, 'no answer', 4));
  t.notOk(isUsable(pool, 1));
  t.same(pool.state(1), { failures: 3, lastFailure: 'no answer', ejectedUntilMs: 30_004 });
  t.ok(isUsable(pool, 0), 'the others are not concerned');
  t.equal(pool.nextMs, 30_004);
  t.same(pool.advance(30_003), []);
  t.same(pool.advance(30_004), [1]);
  t.ok(isUsable(pool, 1));
  t.equal(pool.state(1)!.failures, 0);
  t.equal(pool.nextMs, undefined);
});

t.test('each ejection is longer than the one before, up to a limit; time in the pool is forgiven', async (t) => {
  const pool = poolOf(4);
  let nowMs = 0;
  const lasted: number[] = [];
  for (let i = 0; i < 12; i++) {
    lasted.push(eject(pool, 0, nowMs));
    nowMs = pool.nextMs!;
    pool.advance(nowMs);
  }
  t.same(
    lasted,
    [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300].map((seconds) => 1000 * seconds),
  );
  t.equal(lasted.at(-1), LONGEST_EJECTION_MS);

  // Of 12 ejections, 9 are forgiven: the next one is the fourth.
  nowMs += 9 * defaults.intervalMs + 1;
  t.equal(eject(pool, 0, nowMs), 4 * defaults.baseEjectionMs);
  // All are forgiven at the end. The time of an ejection forgives nothing.
  nowMs = pool.nextMs!;
  pool.advance(nowMs + 40 * defaults.intervalMs);
  t.equal(eject(pool, 0, nowMs + 40 * defaults.intervalMs), defaults.baseEjectionMs);

  const patient = poolOf(4, { baseEjectionMs: 2 * LONGEST_EJECTION_MS });
  t.equal(eject(patient, 0, 0), 2 * LONGEST_EJECTION_MS, 'a base time above the limit is the limit');
  patient.advance(patient.nextMs!);
  t.equal(eject(patient, 0, patient.state(0)!.ejectedUntilMs ?? 2 * LONGEST_EJECTION_MS), 2 * LONGEST_EJECTION_MS);
});

t.test('who is acquitted is back at once, and the next ejection is no longer for it', async (t) => {
  const pool = poolOf(4);
  t.notOk(pool.acquit(0, 0), 'nobody has ejected it');
  eject(pool, 0, 0);
  t.ok(pool.acquit(0, 5));
  t.ok(isUsable(pool, 0));
  t.equal(pool.state(0)!.failures, 0);
  t.equal(eject(pool, 0, 10), defaults.baseEjectionMs);
});

t.test('no more than a share is ejected, but always one', async (t) => {
  const pool = poolOf(5);
  t.same(
    [0, 1, 2, 3].map((id) => eject(pool, id, id) > 0),
    [true, true, false, false],
    'half of five are two',
  );
  t.ok(isUsable(pool, 2));
  pool.advance(30_000);
  t.ok(pool.failed(3, 'reset', 30_001), 'who goes on failing is next');
  t.notOk(pool.failed(2, 'reset', 30_002));

  const few = poolOf(3, { mostEjectedPercent: 10 });
  t.ok(eject(few, 0, 0) > 0, 'one, although 10 % of three are none');
  t.equal(eject(few, 1, 0), 0);
  t.equal(eject(poolOf(3, { mostEjectedPercent: 0 }), 0, 0), 0, 'unless the share is 0');
});

t.test('in a panic, all are used', async (t) => {
  const pool = poolOf(4, { mostEjectedPercent: 100, leastHealthyPercent: 50 });
  eject(pool, 0, 0);
  eject(pool, 1, 0);
  t.notOk(pool.isPanic, 'half of them is not fewer than half');
  t.notOk(isUsable(pool, 0));
  eject(pool, 2, 0);
  t.ok(pool.isPanic);
  t.same(
    [0, 1, 2, 3].map((id) => isUsable(pool, id)),
    [true, true, true, true],
  );
  t.notOk(pool.failed(0, 'reset', 10), 'a failure of an ejected one is not counted');
  pool.worked(0);
  t.equal(pool.state(0)!.ejectedUntilMs, 30_000, 'nor what works');
  pool.advance(30_000);
  t.notOk(pool.isPanic);

  const all = poolOf(2, { mostEjectedPercent: 100 });
  eject(all, 0, 0);
  t.notOk(all.isPanic);
  eject(all, 1, 0);
  t.ok(all.isPanic, 'also without a least share, if nobody is left');
  const alone = poolOf(1);
  t.ok(eject(alone, 0, 0) > 0);
  t.ok(isUsable(alone, 0), 'the only one there is');
  t.notOk(poolOf(0).isPanic);
});

t.test('backends and settings change', async (t) => {
  const pool = poolOf(4);
  eject(pool, 0, 0);
  eject(pool, 1, 5);
  t.same(pool.setMembers([1, 2, 0], 10), [0], 'one of three: the first to return is back at once');
  t.ok(isUsable(pool, 0));
  t.notOk(isUsable(pool, 1));
  pool.setMembers([2, 3, 4, 5], 20);
  t.equal(pool.state(1), undefined);
  t.equal(pool.nextMs, undefined);
  t.notOk(pool.failed(1, 'reset', 21), 'one that is gone');
  pool.setMembers([1, 2], 30);
  t.equal(eject(pool, 1, 30), defaults.baseEjectionMs, 'one that comes again is a new one');
  t.same(pool.setSettings({ ...defaults, mostEjectedPercent: 0 }, 40), [1]);
});

// Random tests

/** The same rules, in the plainest way: every millisecond of every backend is gone through, and nothing is counted ahead. */
class Twin {
  members: {
    id: number;
    failures: number;
    ejections: number;
    inPoolMs: number;
    leftMs: number;
  }[] = [];
  settings: OutlierSettings;
  nowMs = 0;

  constructor(settings: OutlierSettings) {
    this.settings = settings;
  }

  passTo(nowMs: number): void {
    for (; this.nowMs < nowMs; this.nowMs++) {
      for (const member of this.members) {
        if (member.leftMs > 0) {
          if (--member.leftMs === 0) [member.failures, member.inPoolMs] = [0, 0];
        } else if (++member.inPoolMs === this.settings.intervalMs) {
          member.inPoolMs = 0;
          member.ejections = Math.max(0, member.ejections - 1);
        }
      }
    }
  }

  ejected() {
    return this.members.filter(({ leftMs }) => leftMs > 0);
  }

  most(): number {
    const { mostEjectedPercent: percent } = this.settings;
    let most = 0;
    while ((most + 1) * 100 <= this.members.length * percent) most++;
    return most === 0 && percent > 0 ? 1 : most;
  }

  fit(): void {
    while (this.ejected().length > this.most()) {
      const [first] = this.ejected().sort((a, b) => a.leftMs - b.leftMs);
      [first!.leftMs, first!.failures, first!.inPoolMs] = [0, 0, 0];
    }
  }

  setMembers(ids: readonly number[]): void {
    this.members = ids.map(
      (id) =>
        this.members.find((member) => member.id === id) ?? {
          ...{ id, failures: 0, ejections: 0, inPoolMs: 0, leftMs: 0 },
        },
    );
    this.fit();
  }

  failed(id: number): void {
    const member = this.members.find((one) => one.id === id);
    if (!member || member.leftMs > 0) return;
    member.failures++;
    if (member.failures < this.settings.failures || this.ejected().length + 1 > this.most()) return;
    member.ejections++;
    for (let i = 0; i < member.ejections; i++) member.leftMs += this.settings.baseEjectionMs;
    member.leftMs = Math.min(member.leftMs, Math.max(LONGEST_EJECTION_MS, this.settings.baseEjectionMs));
  }

  worked(id: number): void {
    for (const member of this.members) if (member.id === id && member.leftMs === 0) member.failures = 0;
  }

  isUsable(id: number): boolean {
    const left = this.members.length - this.ejected().length;
    const isPanic = left === 0 || (100 * left) / this.members.length < this.settings.leastHealthyPercent;
    return isPanic || !this.ejected().some((member) => member.id === id);
  }
}

const seed = Date.now() % 2 ** 32;
t.test(`the pool does what its naive twin does (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const anySettings = (): OutlierSettings => ({
    failures: 1 + random.int(3),
    intervalMs: 1 + random.int(random.pick([60, 3000])),
    baseEjectionMs: 1 + random.int(random.pick([80, 800])),
    mostEjectedPercent: random.int(5) === 0 ? 100 : random.int(101),
    leastHealthyPercent: random.int(3) === 0 ? random.int(101) : 0,
  });
  const anyMembers = (): number[] => Array.from({ length: 10 }, (_, id) => id).filter(() => random.int(3) > 0);
  let ejections = 0;
  let panics = 0;
  let tooMany = 0;
  for (let run = 0; run < 60; run++) {
    const settings = anySettings();
    const pool = new OutlierPool<number>(settings);
    const twin = new Twin(settings);
    const members = anyMembers();
    pool.setMembers(members, 0);
    twin.setMembers(members);
    let nowMs = 0;
    for (let step = 0; step < 300; step++) {
      nowMs += random.int(4) === 0 ? random.int(200) : random.int(3);
      pool.advance(nowMs);
      twin.passTo(nowMs);
      const id = random.int(10);
      const what = random.int(40);
      if (what === 0) {
        const next = anyMembers();
        tooMany += pool.setMembers(next, nowMs).length;
        twin.setMembers(next);
      } else if (what === 1) {
        twin.settings = anySettings();
        tooMany += pool.setSettings(twin.settings, nowMs).length;
        // What was left over of an interval counts for the new one.
        for (const member of twin.members) {
          for (; member.leftMs === 0 && member.inPoolMs >= twin.settings.intervalMs; ) {
            member.inPoolMs -= twin.settings.intervalMs;
            member.ejections = Math.max(0, member.ejections - 1);
          }
        }
        twin.fit();
      } else if (what < 30) {
        if (pool.failed(id, 'reset', nowMs)) ejections++;
        twin.failed(id);
      } else {
        pool.worked(id);
        twin.worked(id);
      }
      if (pool.isPanic) panics++;
      const seen = twin.members.map((member) => ({
        ...{ id: member.id, failures: member.failures, usable: twin.isUsable(member.id) },
        untilMs: member.leftMs > 0 ? nowMs + member.leftMs : undefined,
      }));
      const found = twin.members.map(({ id: one }) => {
        const { failures, ejectedUntilMs } = pool.state(one)!;
        return { id: one, failures, usable: isUsable(pool, one), untilMs: ejectedUntilMs };
      });
      if (JSON.stringify(found) !== JSON.stringify(seen)) {
        t.same(found, seen, `run ${run}, step ${step}`);
        return;
      }
    }
  }
  t.ok(ejections > 100 && panics > 10 && tooMany > 0, `${ejections} ejections, ${panics} steps of panic`);
});
