/** The search for a path MTU: on simulated paths that lose large packets, without root and without waiting. */
import t from 'tap';
import { PathProber } from '../../src/paths/path-prober.ts';
import { CONFIRM_MS, PathSearch } from '../../src/paths/path-search.ts';
import type { Probe } from '../../src/paths/probe.ts';
import { Random } from '../support/random.ts';

const BASE = 576;
/** What IPv6 inside the tunnel needs. */
const LEAST = 1330;
const TEN_MINUTES_MS = 600_000;
const TIMEOUT_MS = 1000;
const URGENT_MS = 200;
const ROUND_TRIP_MS = 10;

/** A path, and the search on it. */
class World {
  nowMs = 0;
  /** The sizes that were sent, in order. */
  readonly sent: number[] = [];
  readonly search = new PathSearch(BASE, LEAST);
  /** The largest size that passes; 0: the host is down. */
  takes: number;

  constructor(takes: number, ceiling = 1500) {
    this.takes = takes;
    this.search.setCeiling(ceiling, 0);
  }

  /** Does everything that is due within `ms`; returns how many probes that took. */
  run(ms: number): number {
    const before = this.sent.length;
    for (const end = this.nowMs + ms; this.nowMs < end; ) {
      const probe = this.search.next(this.nowMs);
      if (!probe) {
        this.nowMs += 1000;
        continue;
      }
      this.sent.push(probe.bytes);
      const passes = probe.bytes <= this.takes;
      this.nowMs += passes ? ROUND_TRIP_MS : probe.isUrgent ? URGENT_MS : TIMEOUT_MS;
      this.search.result(probe, passes, this.nowMs);
    }
    return this.sent.length - before;
  }
}

t.test('a path that takes all is asked twice a minute', async (t) => {
  const world = new World(1500);
  t.equal(world.search.isConfirmed, false);
  t.equal(world.run(CONFIRM_MS * 20), 20);
  t.same([...new Set(world.sent)], [1500]);
  t.equal(world.search.found, undefined);
  t.equal(world.search.isConfirmed, true);
});

t.test('a black hole is found to the byte, after several losses while a small probe passes', async (t) => {
  for (const takes of [BASE, 577, 1280, 1300, 1498, 1499]) {
    const world = new World(takes);
    world.run(18_000);
    t.same(world.sent.slice(0, 5), [1500, 1500, 1500, BASE, 1500]);
    t.equal(world.search.found, takes);
    t.equal(world.search.isConfirmed, true);
    t.ok(world.sent.length <= 17, `${world.sent.length} probes`);
  }
  const jumbo = new World(1500, 9000);
  jumbo.run(20_000);
  t.equal(jumbo.search.found, 1500);
  t.ok(jumbo.sent.length <= 20, `${jumbo.sent.length} probes`);
});

t.test('one or two losses say nothing', async (t) => {
  for (const losses of [1, 2]) {
    const world = new World(0);
    world.run(losses * TIMEOUT_MS);
    world.takes = 1500;
    world.run(CONFIRM_MS * 2);
    t.equal(world.search.found, undefined);
    t.same([...new Set(world.sent)], [1500]);
  }
});

t.test('a host that does not answer at all keeps what is known, and is asked little', async (t) => {
  const world = new World(0);
  t.ok(world.run(CONFIRM_MS * 20) <= 6 * 20);
  t.equal(world.search.found, undefined);
  t.equal(world.search.isConfirmed, false);
  world.takes = 1300;
  world.run(CONFIRM_MS * 2);
  t.equal(world.search.found, 1300);
  world.takes = 0;
  world.run(CONFIRM_MS * 2);
  t.same([world.search.found, world.search.isConfirmed], [1300, false]);
});

t.test('a path that comes to take less is noticed within half a minute and the time of a search', async (t) => {
  const world = new World(1500);
  world.run(CONFIRM_MS * 3);
  for (const takes of [1400, 1300]) {
    world.takes = takes;
    world.run(CONFIRM_MS + 15_000);
    t.equal(world.search.found, takes);
  }
});

t.test(
  'what was lowered is raised again as soon as more passes, at the cost of one more probe each time',
  async (t) => {
    const world = new World(1300);
    world.run(15_000);
    world.takes = 1500;
    world.run(CONFIRM_MS + 10_000);
    t.equal(world.search.found, undefined, 'what was only an outage');

    world.takes = 1300;
    world.run(CONFIRM_MS * 4);
    t.equal(world.search.found, 1300);
    const many = world.run(TEN_MINUTES_MS);
    t.ok(many <= (2 * TEN_MINUTES_MS) / CONFIRM_MS, `${many} probes in ten minutes`);
    world.takes = 1400;
    world.run(CONFIRM_MS + 15_000);
    t.equal(world.search.found, 1400, 'in part');
    world.takes = 1500;
    world.run(CONFIRM_MS + 15_000);
    t.equal(world.search.found, undefined, 'and altogether');
  },
);

t.test('what the kernel was told of is not believed where more passes, however small and however often', async (t) => {
  const world = new World(1500);
  world.run(1);
  for (const hint of [552, 553, 1280, 1499, 1300, 552]) {
    for (const wait of [0, 5000]) {
      world.run(wait);
      world.search.setHint(hint, world.nowMs);
      t.equal(world.search.bytes, 1500);
      const before = world.sent.length;
      world.run(1000);
      if (wait > 0) t.same(world.sent.slice(before), [Math.max(hint, BASE) + 1, 1500], 'one probe, and the other sees');
      t.equal(world.search.bytes, 1500);
      t.equal(world.search.isConfirmed, true);
      world.search.setHint(1500, world.nowMs);
    }
  }
  t.equal(world.search.found, undefined);
});

t.test('what the kernel was told of is found at once where it is true', async (t) => {
  for (const takes of [BASE, 1280, 1300, 1400, 1499]) {
    const world = new World(1500);
    world.run(CONFIRM_MS * 3 + 1);
    world.takes = takes;
    world.search.setHint(takes, world.nowMs);
    const since = world.nowMs;
    while (world.search.bytes !== takes && world.nowMs < since + 60_000) world.run(1);
    t.ok(world.nowMs - since <= 2 * URGENT_MS + 2 * ROUND_TRIP_MS, `after ${world.nowMs - since} ms`);
    t.equal(world.search.found, takes);
    world.run(CONFIRM_MS * 3);
    t.equal(world.search.bytes, takes);
    world.search.setHint(1500, world.nowMs);
    world.takes = 1500;
    world.run(15_000);
    t.equal(world.search.bytes, 1500, 'and what is over is over');
  }
  const further = new World(1500);
  further.run(1);
  further.takes = 1350;
  further.search.setHint(1400, further.nowMs);
  further.run(15_000);
  t.equal(further.search.bytes, 1350, 'what the path takes may be less still');
});

t.test('probes that are lost by chance lower a path for a second, not for long', async (t) => {
  const world = new World(1500);
  world.run(1);
  world.search.setHint(552, world.nowMs);
  for (const [bytes, isAnswered] of [
    [577, false],
    [576, true],
    [577, false],
  ] as const) {
    const probe = world.search.next(world.nowMs)!;
    t.equal(probe.bytes, bytes);
    world.search.result(probe, isAnswered, world.nowMs);
  }
  t.equal(world.search.bytes, 576);
  world.run(2000);
  t.equal(world.search.bytes, 1500);
});

t.test(
  'where nothing answers, what the kernel was told of counts, but never less than IPv6 inside needs',
  async (t) => {
    const world = new World(0);
    world.search.setHint(1400, 0);
    t.equal(world.search.bytes, 1400);
    world.run(CONFIRM_MS);
    t.equal(world.search.bytes, 1400);
    world.search.setHint(552, world.nowMs);
    t.equal(world.search.bytes, LEAST);
    world.run(CONFIRM_MS);
    t.equal(world.search.bytes, LEAST);
    world.search.setCeiling(1300, world.nowMs);
    t.equal(world.search.bytes, 1300, 'where the interface takes less, that is it');
    world.search.setCeiling(1500, world.nowMs);
    world.takes = 1500;
    world.run(CONFIRM_MS * 2);
    t.equal(world.search.bytes, 1500, 'once something answers, that tells');
    world.takes = 0;
    world.run(CONFIRM_MS * 2);
    t.equal(world.search.bytes, LEAST, 'a host that has gone silent says nothing of its path any more');
  },
);

t.test('what the kernel learns bounds the search, and is looked into at once', async (t) => {
  const world = new World(1300);
  world.run(15_000);
  world.search.setCeiling(1280, world.nowMs);
  t.equal(world.search.found, undefined, 'the kernel knows better');
  world.run(5000);
  t.equal(world.sent.at(-1), 1280);
  world.search.setCeiling(1500, world.nowMs);
  world.run(15_000);
  t.equal(world.search.found, 1300);
  world.takes = 1500;
  world.search.setCeiling(9000, world.nowMs);
  world.run(15_000);
  t.equal(world.search.found, 1500);

  const late = world.search.next(world.nowMs + TEN_MINUTES_MS)!;
  world.search.setCeiling(1400, world.nowMs);
  world.search.result(late, false, world.nowMs);
  t.equal(world.search.next(world.nowMs)!.bytes, 1400, 'the result of a probe that was overtaken counts for nothing');
  t.equal(world.search.next(world.nowMs), undefined, 'one at a time');

  const small = new World(0, BASE);
  t.equal(small.run(CONFIRM_MS * 3), 0, 'where every path takes that much, nothing is asked');
  t.equal(small.search.isConfirmed, true);
});

t.test('an outage that is over when the small probe comes back lowers nothing', async (t) => {
  for (const takes of [1500, 1300]) {
    const world = new World(takes);
    world.run(CONFIRM_MS * 4);
    world.takes = 0;
    const before = world.sent.length;
    while (world.sent.length < before + 3) world.run(1);
    world.takes = takes;
    world.run(5000);
    t.same(world.sent.slice(before, before + 5), [takes, takes, takes, BASE, takes], 'what passed before comes first');
    t.equal(world.search.found ?? 1500, takes);
  }
});

t.test('random paths, ceilings and outages: what is found passes, and nothing more would', async (t) => {
  const seed = Number(process.env['WEFT_SEED'] ?? process.pid);
  t.comment(`WEFT_SEED=${seed}`);
  const random = new Random(seed);
  for (let i = 0; i < 200; i++) {
    const ceiling = BASE + 1 + random.int(9000);
    const takes = BASE + random.int(ceiling - BASE + 1);
    const world = new World(takes, ceiling);
    const found = (): number => world.search.found ?? ceiling;
    // During the first search, or long after it.
    const isKnown = random.chance(0.5);
    world.run(isKnown ? 60_000 + random.int(TEN_MINUTES_MS * 2) : random.int(20_000));
    if (isKnown) t.equal(found(), takes, `path ${i}, of ${ceiling}`);
    world.takes = 0;
    world.run(random.int(60_000));
    world.takes = takes;
    const probes = world.run(60_000);
    t.equal(found(), takes, `path ${i}, of ${ceiling}, after an outage`);
    // At most three bisections: the rest of one, another one, and the one that tries to raise the result.
    t.ok(probes <= 3 * (Math.log2(ceiling) + 6), `${probes} probes`);
  }
});

t.test('an outage never lowers what a path was known to take', async (t) => {
  const seed = Number(process.env['WEFT_SEED'] ?? process.pid);
  t.comment(`WEFT_SEED=${seed}`);
  const random = new Random(seed);
  for (let i = 0; i < 100; i++) {
    const takes = BASE + random.int(1500 - BASE + 1);
    const world = new World(takes);
    world.run(30_000 + random.int(TEN_MINUTES_MS * 2));
    for (const [is, forMs] of [
      [0, random.int(60_000)],
      [takes, TEN_MINUTES_MS],
    ] as const) {
      world.takes = is;
      for (const end = world.nowMs + forMs; world.nowMs < end; ) {
        world.run(1);
        if ((world.search.found ?? 1500) !== takes) t.fail(`path ${i}: ${world.search.found}, not ${takes}`);
      }
    }
  }
});

t.test('many peers are probed a few at a time, in turns; those that go are forgotten', async (t) => {
  const peers = Array.from({ length: 50 }, (_, i) => `192.0.2.${i + 1}`);
  const mtus = new Map(peers.map((peer) => [peer, { ceilingBytes: 1500, hintBytes: 1500 }]));
  const waiting: { peer: string; bytes: number | undefined; answer: (isReachable: boolean) => void }[] = [];
  const probe: Probe = (peer, _, { bytes } = {}) =>
    new Promise((resolve) => {
      waiting.push({ peer, bytes, answer: (isReachable) => resolve({ isReachable }) });
    });
  let nowMs = 0;
  const found: string[] = [];
  const prober = new PathProber({ probe, clock: () => nowMs, onChange: (peer) => found.push(peer) });
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  const asked = new Set<string>();
  for (let second = 0; second < 10; second++) {
    prober.watch(mtus);
    t.ok(waiting.length <= 8, `${waiting.length} at once`);
    for (const { peer, answer } of waiting.splice(0)) {
      asked.add(peer);
      answer(true);
    }
    await settle();
    nowMs += 1000;
  }
  t.equal(asked.size, 50);
  t.ok(peers.every((peer) => prober.isConfirmed(peer)));

  nowMs += CONFIRM_MS;
  const hole = peers[0]!;
  for (let step = 0; step < 600 && !found.includes(hole); step++) {
    prober.watch(mtus);
    for (const { peer, bytes, answer } of waiting.splice(0)) answer(peer !== hole || bytes! <= 1400);
    await settle();
    nowMs += 100;
  }
  t.same(found, [hole]);
  t.equal(prober.found(hole), 1400);
  mtus.delete(hole);
  prober.watch(mtus);
  t.equal(prober.found(hole), undefined);

  prober.close();
  for (const { answer } of waiting.splice(0)) answer(false);
  await settle();
  t.equal(waiting.length, 0, 'and then it is over');
});
