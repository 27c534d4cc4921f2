/** This host's copy of a shared store's state, as a file. */
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { StateCopy } from '../../src/cluster/feed/state-copy.ts';
import { encodeRecord } from '../../src/store/journal.ts';
import { run } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';

interface Mark {
  readonly n: number;
}

function pathOf(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), `weft-copy-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, 'copy');
}

async function opened(path: string, onWarning = (message: string): unknown => t.fail(message)) {
  return StateCopy.open<Mark>(path, onWarning);
}

/** What a daemon reads from it. */
async function contents(
  path: string,
  onWarning?: (message: string) => unknown,
): Promise<{ n: number | undefined; values: Record<string, unknown> }> {
  const { copy, mark, entries } = await opened(path, onWarning);
  await copy.close();
  return { n: mark?.n, values: valuesOf(entries) };
}

function valuesOf(entries: ReadonlyMap<string, { readonly value?: unknown }>): Record<string, unknown> {
  return Object.fromEntries([...entries].map(([key, { value }]) => [key, value]));
}

/** What may be in force instead, the last one first. */
function beforeOf(before: ReadonlyMap<string, readonly { readonly value?: unknown }[]>): Record<string, unknown> {
  return Object.fromEntries([...before].map(([key, all]) => [key, all.map(({ value }) => value)]));
}

function put(copy: StateCopy<Mark>, key: string, revision: number, value: unknown): void {
  copy.put({ key, revision }, JSON.stringify(value));
}

t.test('it is what was in force at the last whole mark, wherever it is cut off', async (t) => {
  const path = pathOf(t);
  const { copy, mark, entries } = await opened(path);
  t.same([mark, entries.size], [undefined, 0]);
  /** What it has at each length at which a mark ends. */
  const expected = [{ at: statSync(path).size, n: undefined as number | undefined, values: {} as object }];
  const values: Record<string, unknown> = {};
  for (let n = 1; n <= 5; n++) {
    for (const key of [`networks/n${n}`, 'endpoints/shop/"ü\\n"']) {
      values[key] = { n, text: 'line\nfeed' };
      put(copy, key, n, values[key]);
    }
    if (n > 2) {
      delete values[`networks/n${n - 2}`];
      copy.delete(`networks/n${n - 2}`);
    }
    copy.commit({ n });
    t.ok(await copy.flushed());
    expected.push({ at: statSync(path).size, n, values: { ...values } });
  }
  await copy.close();
  t.same(await contents(path), { n: 5, values });
  const whole = readFileSync(path);
  const cut = join(path, '..', 'cut');
  for (let at = whole.length; at >= 0; at -= at > 200 ? 7 : 1) {
    writeFileSync(cut, whole.subarray(0, at));
    const { n, values: is } = expected.findLast((one) => one.at <= at) ?? expected[0]!;
    const told: string[] = [];
    const found = await contents(cut, (message) => told.push(message));
    t.same(found, { n, values: is }, `cut at ${at}`);
    const isLost = n === undefined && at > expected[0]!.at;
    if (n !== undefined || isLost) t.equal(told.length, isLost ? 1 : 0, `told at ${at}`);
    if (isLost) t.match(told[0], `is cut off at byte ${at}: what this host knew of the cluster is lost`);
  }
  // A daemon goes on behind what counts.
  writeFileSync(cut, whole.subarray(0, whole.length - 3));
  const again = await opened(cut);
  put(again.copy, 'networks/new', 9, {});
  again.copy.commit({ n: 9 });
  await again.copy.close();
  t.same(await contents(cut), { n: 9, values: { ...expected.at(-2)!.values, 'networks/new': {} } });
});

t.test('what is said to be written is there after a crash, however much comes behind it', async (t) => {
  const path = pathOf(t);
  const { copy } = await opened(path);
  for (let n = 1; n <= 20; n++) {
    put(copy, 'networks/a', n, { n });
    copy.commit({ n });
    let isWritten = false;
    const written = copy.written().then(() => (isWritten = true));
    // Others never stop to write.
    const others = setInterval(() => {
      if (isWritten) return;
      put(copy, 'networks/b', n, {});
      copy.commit({ n });
    });
    await written;
    clearInterval(others);
    const crashed = `${path}.crashed`;
    writeFileSync(crashed, readFileSync(path));
    t.match(await contents(crashed), { n, values: { 'networks/a': { n } } });
  }
  await copy.written();
  await copy.close();
});

t.test('a damaged line, another file and another version are not used', async (t) => {
  const path = pathOf(t);
  const { copy } = await opened(path);
  put(copy, 'networks/a', 1, { a: 1 });
  copy.commit({ n: 1 });
  await copy.flushed();
  const first = statSync(path).size;
  put(copy, 'networks/b', 2, { b: 2 });
  copy.commit({ n: 2 });
  await copy.close();
  const whole = readFileSync(path);
  const damaged = Buffer.from(whole);
  damaged[first + 20]! ^= 1;
  writeFileSync(path, damaged);
  const warnings: string[] = [];
  const warn = (message: string): unknown => warnings.push(message.slice(path.length));
  t.same(await contents(path, warn), { n: 1, values: { 'networks/a': { a: 1 } } });
  for (const other of ['something else\n', encodeRecord({ file: 'weft copy', format: 2 }), '']) {
    writeFileSync(path, other);
    t.same(await contents(path, warn), { n: undefined, values: {} });
  }
  const isLost = 'what this host knew of the cluster is lost, and it forwards nothing until the store answers';
  t.same(warnings, [
    ` is damaged at byte ${first}: what is in front of that counts, and later changes are known when the store answers`,
    ` is damaged at byte 0: ${isLost}`,
    ` is not one that this version of weft reads: ${isLost}`,
  ]);
});

t.test('it stays as long as what it holds', async (t) => {
  const path = pathOf(t);
  const { copy } = await opened(path);
  const text = 'x'.repeat(1000);
  let longest = 0;
  for (let n = 0; n < 100; n++) {
    for (let key = 0; key < 100; key++) put(copy, `networks/n${key}`, n, { n, text });
    if (n === 50) copy.delete('networks/n7');
    copy.commit({ n });
    await copy.flushed();
    longest = Math.max(longest, statSync(path).size);
  }
  copy.delete('networks/n8');
  copy.commit({ n: 100 });
  await copy.close();
  t.ok(longest < 3 << 20, `${longest} bytes`);
  const { n, values } = await contents(path);
  t.equal(n, 100);
  t.same(Object.keys(values).length, 99);
  for (const value of Object.values(values)) t.equal((value as Mark).n, 99);
});

t.test('what a new one gets first is written once, however much it is', async (t) => {
  const path = pathOf(t);
  const { copy } = await opened(path);
  const { ino } = statSync(path);
  const putAll = (n: number): void => {
    for (let key = 0; key < 4000; key++) put(copy, `networks/n${key}`, n, { n, text: 'x'.repeat(1000) });
    copy.commit({ n });
  };
  // The mark of a store comes before its records.
  copy.commit({ n: 0 });
  await copy.flushed();
  putAll(1);
  await copy.flushed();
  t.ok(statSync(path).size > 4_000_000);
  t.equal(statSync(path).ino, ino, 'the same file');
  putAll(2);
  await copy.flushed();
  t.equal(statSync(path).ino, ino, 'twice as long, and a little');
  putAll(3);
  await copy.flushed();
  t.not(statSync(path).ino, ino, 'then what is out of date is left out');
  t.ok(statSync(path).size < 5_000_000);
  await copy.close();
  t.equal((await contents(path)).n, 3);
});

t.test(
  'where a record is refused, the last one that was accepted stays beside it, also when all others are left out',
  async (t) => {
    const path = pathOf(t);
    let { copy } = await opened(path);
    const set = (key: string, revision: number, isRefused = false): void => {
      put(copy, key, revision, { revision });
      if (isRefused) copy.refuse(key, revision);
      copy.commit({ n: revision });
    };
    const key = 'networks/a';
    const is = async (last: number, accepted?: number, isRefused = accepted !== undefined): Promise<void> => {
      t.ok(await copy.flushed());
      await copy.close();
      const read = await opened(path);
      t.same(valuesOf(read.entries), { [key]: { revision: last } });
      t.same(beforeOf(read.before), accepted === undefined ? {} : { [key]: [{ revision: accepted }] });
      t.equal(read.copy.isRefused(key), isRefused);
      t.same([...read.refused], isRefused ? [key] : []);
      copy = read.copy;
    };
    /** Writes until the file is another one. */
    const compact = async (): Promise<void> => {
      const { ino } = statSync(path);
      for (let n = 100; statSync(path).ino === ino; n++) {
        put(copy, 'networks/other', n, { text: 'x'.repeat(100_000) });
        copy.commit({ n });
        t.ok(await copy.flushed());
      }
      copy.delete('networks/other');
      copy.commit({ n: 99 });
    };
    set(key, 1, true);
    await is(1, undefined, true);
    set(key, 2);
    set(key, 3, true);
    await is(3, 2);
    await compact();
    await is(3, 2);
    set(key, 4, true);
    await copy.flushed();
    // Said when the next one is noted already.
    set(key, 5);
    copy.refuse(key, 5);
    copy.commit({ n: 5 });
    await is(5, 2);
    await compact();
    await is(5, 2);
    t.equal(readFileSync(path, 'utf8').match(/"networks\/a",\d,/g)?.length, 2, 'and nothing else of it');
    set(key, 6);
    await is(6);
    set(key, 7, true);
    await is(7, 6);
    set(key, 7);
    await is(7);
    set(key, 8, true);
    await is(8, 7);
    copy.delete(key);
    set(key, 9, true);
    await is(9, undefined, true);
    set(key, 10);
    await copy.flushed();
    set(key, 11);
    await compact();
    copy.refuse(key, 11);
    copy.commit({ n: 11 });
    await is(11, undefined, true);
    await copy.close();
  },
);

t.test('what was written just before all others are left out may be refused afterwards', async (t) => {
  const path = pathOf(t);
  const { copy } = await opened(path);
  put(copy, 'networks/a', 1, { a: 1 });
  copy.commit({ n: 1 });
  await copy.flushed();
  const { ino } = statSync(path);
  put(copy, 'networks/a', 2, { a: 2 });
  for (let n = 0; n < 1000; n++) put(copy, `networks/n${n}`, 2, { text: 'x'.repeat(2000) });
  copy.commit({ n: 2 }, false);
  await copy.flushed();
  t.not(statSync(path).ino, ino);
  // A daemon that is killed there has not said so.
  const killed = await opened(path);
  await killed.copy.close();
  t.same(beforeOf(killed.before), { 'networks/a': [{ a: 1 }] });
  t.equal(killed.refused.size, 0);
  copy.refuse('networks/a', 2);
  copy.commit({ n: 2 });
  await copy.close();
  const { copy: again, before } = await opened(path);
  await again.close();
  t.same(beforeOf(before), { 'networks/a': [{ a: 1 }] });
});

t.test('until it can be written, the last one that was accepted is kept', async (t) => {
  const path = pathOf(t);
  const { copy } = await opened(path, () => {});
  rmSync(join(path, '..'), { recursive: true });
  const set = async (revision: number, isRefused: boolean): Promise<void> => {
    put(copy, 'networks/a', revision, { revision });
    if (isRefused) copy.refuse('networks/a', revision);
    copy.commit({ n: revision });
    t.notOk(await copy.flushed());
  };
  await set(1, false);
  await set(2, false);
  await set(3, true);
  await set(4, true);
  mkdirSync(join(path, '..'));
  copy.retry();
  t.ok(await copy.flushed());
  t.equal(readFileSync(path, 'utf8').match(/"networks\/a",\d,/g)?.length, 2);
  await copy.close();
  const { copy: again, entries, before, refused } = await opened(path);
  await again.close();
  t.same(valuesOf(entries), { 'networks/a': { revision: 4 } });
  t.same(beforeOf(before), { 'networks/a': [{ revision: 2 }] });
  t.same([...refused], ['networks/a']);
});

t.test('what is committed is judged, also if something is noted while it waits to be written', async (t) => {
  const path = pathOf(t);
  const { copy } = await opened(path);
  put(copy, 'networks/a', 1, { a: 1 });
  copy.commit({ n: 1 });
  put(copy, 'networks/a', 2, { a: 2 });
  await copy.flushed();
  t.same(await contents(path), { n: 1, values: { 'networks/a': { a: 1 } } }, 'that is not written yet');
  copy.commit({ n: 2 }, false);
  await copy.flushed();
  copy.commit({ n: 3 });
  await copy.flushed();
  await copy.close();
  const { copy: again, before } = await opened(path);
  await again.close();
  t.equal(before.size, 0);
});

for (const isCompacted of [false, true]) {
  const compacted = isCompacted ? ', compacted' : '';
  /** Commits, and lets the file be another one. */
  const commit = async (t: Test, path: string, copy: StateCopy<Mark>, n: number, isJudged: boolean): Promise<void> => {
    for (let m = 0; isCompacted && m < 1000; m++) put(copy, `networks/n${m}`, n, { text: 'x'.repeat(n * 2000) });
    const { ino } = statSync(path, { bigint: true });
    copy.commit({ n }, isJudged);
    await copy.flushed();
    t.equal(statSync(path, { bigint: true }).ino !== ino, isCompacted);
    // A daemon that is killed there starts again.
    await copy.close();
  };

  t.test(`what nobody has judged may be in force, and so may what is in front of it${compacted}`, async (t) => {
    const path = pathOf(t);
    let { copy } = await opened(path);
    put(copy, 'networks/a', 1, { a: 1 });
    copy.commit({ n: 1 });
    await copy.flushed();
    put(copy, 'networks/a', 2, { a: 2 });
    await commit(t, path, copy, 2, false);
    ({ copy } = await opened(path));
    put(copy, 'networks/a', 3, { a: 3 });
    copy.refuse('networks/a', 3);
    await commit(t, path, copy, 3, true);
    const read = await opened(path);
    t.same(beforeOf(read.before), { 'networks/a': [{ a: 2 }, { a: 1 }] });
    put(read.copy, 'networks/a', 4, { a: 4 });
    await commit(t, path, read.copy, 4, true);
    const { copy: again, before } = await opened(path);
    await again.close();
    t.equal(before.size, 0, 'what is accepted takes the place of all of them');
  });

  t.test(`what nobody has judged may be in force, also if nothing is in front of it${compacted}`, async (t) => {
    const path = pathOf(t);
    let { copy } = await opened(path);
    copy.commit({ n: 0 });
    await copy.flushed();
    put(copy, 'networks/a', 1, { a: 1 });
    if (isCompacted) put(copy, 'networks/x', 1, 'x'.repeat(2_000_000));
    await copy.flushed();
    copy.commit({ n: 1 }, false);
    await copy.flushed();
    await copy.close();
    ({ copy } = await opened(path));
    put(copy, 'networks/a', 2, { a: 2 });
    copy.refuse('networks/a', 2);
    await commit(t, path, copy, 3, true);
    const { copy: again, before, refused } = await opened(path);
    await again.close();
    t.same(beforeOf(before), { 'networks/a': [{ a: 1 }] });
    t.same([...refused], ['networks/a']);
  });
}

t.test('of several records that are written at once, those in front of the last may be in force', async (t) => {
  const path = pathOf(t);
  const { copy } = await opened(path);
  put(copy, 'networks/a', 1, { a: 1 });
  copy.commit({ n: 1 }, false);
  await copy.flushed();
  put(copy, 'networks/a', 0, { a: 'own' });
  put(copy, 'networks/a', 3, { a: 3 });
  copy.commit({ n: 2 }, false);
  await copy.flushed();
  put(copy, 'networks/a', 4, { a: 4 });
  copy.refuse('networks/a', 4);
  copy.commit({ n: 3 });
  await copy.close();
  const { copy: again, before } = await opened(path);
  await again.close();
  t.same(beforeOf(before), { 'networks/a': [{ a: 3 }, { a: 'own' }, { a: 1 }] });
});

t.test('one that cannot be compacted becomes longer, and has everything', async (t) => {
  const path = pathOf(t);
  const warnings: string[] = [];
  const { copy } = await opened(path, (message) => warnings.push(message));
  const text = 'x'.repeat(1000);
  const values: Record<string, unknown> = {};
  const write = async (n: number): Promise<void> => {
    for (let key = 0; key < 1000; key++) put(copy, `networks/n${key}`, n, (values[`networks/n${key}`] = { n, text }));
    copy.commit({ n });
    t.ok(await copy.flushed());
  };
  // In the way of the one that would take its place.
  mkdirSync(`${path}.new`);
  for (let n = 1; n <= 4; n++) await write(n);
  t.match(warnings, [/copy, the copy of the cluster’s state, stays longer than it has to be: EISDIR/]);
  t.equal(warnings.length, 1, 'it is not tried each time');
  rmdirSync(`${path}.new`);
  for (let n = 5; n <= 10; n++) await write(n);
  t.ok(statSync(path).size < 6 << 20, `${statSync(path).size} bytes`);
  t.equal(warnings.length, 1);
  await copy.close();
  t.same(await contents(path), { n: 10, values });
});

t.test('one that was deleted is written again, with all that it had', async (t) => {
  const path = pathOf(t);
  const warnings: string[] = [];
  const { copy } = await opened(path, (message) => warnings.push(message));
  put(copy, 'networks/a', 1, { a: 1 });
  put(copy, 'networks/b', 1, { b: 1 });
  copy.commit({ n: 1 });
  await copy.written();
  const directory = join(path, '..');
  rmSync(directory, { recursive: true });
  put(copy, 'networks/b', 2, { b: 2 });
  copy.commit({ n: 2 });
  t.notOk(await copy.flushed());
  t.match(warnings, [/copy, the copy of the cluster’s state, cannot be written: ENOENT/]);
  mkdirSync(directory);
  const written = copy.written();
  copy.retry();
  await written;
  t.same(await contents(path), { n: 2, values: { 'networks/a': { a: 1 }, 'networks/b': { b: 2 } } });
  put(copy, 'networks/c', 3, { c: 3 });
  copy.commit({ n: 3 });
  await copy.close();
  t.match(await contents(path), { n: 3, values: { 'networks/c': { c: 3 } } });
});

t.test('what cannot be written is written later', { skip: needsRoot }, async (t) => {
  const path = pathOf(t);
  const disk = join(path, '..', 'disk');
  mkdirSync(disk);
  await run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', disk]);
  t.teardown(() => run(['umount', disk]));
  const [file, filler] = [join(disk, 'copy'), join(disk, 'filler')];
  const warnings: string[] = [];
  const { copy } = await opened(file, (message) => warnings.push(message));
  put(copy, 'networks/a', 1, {});
  copy.commit({ n: 1 });
  t.ok(await copy.flushed());
  writeFileSync(filler, Buffer.alloc(56 << 10));
  let written = 0;
  for (const n of [2, 3]) {
    put(copy, 'networks/b', n, { n, text: 'x'.repeat(8 << 10) });
    copy.commit({ n });
    void copy.written().then(() => written++);
    t.notOk(await copy.flushed());
  }
  t.equal(written, 0);
  t.equal(warnings.length, 1, 'told once');
  t.match(warnings[0], /copy, the copy of the cluster’s state, cannot be written: ENOSPC/);
  rmSync(filler);
  copy.retry();
  t.ok(await copy.flushed(), 'also if nothing changes any more');
  t.equal(written, 2);
  await copy.close();
  const { n, values } = await contents(file);
  t.equal(n, 3);
  t.match(values, { 'networks/a': {}, 'networks/b': { n: 3 } });
});

t.test('what is committed just as a write ends is written, too', async (t) => {
  const path = pathOf(t);
  const { copy } = await opened(path);
  const other = await open(path);
  const prototype = Object.getPrototypeOf(other) as FileHandle;
  await other.close();
  const write = Reflect.get(prototype, 'write') as (...given: unknown[]) => Promise<never>;
  t.teardown(() => Reflect.set(prototype, 'write', write));
  for (let steps = 0; steps < 20; steps++) {
    const isWritten = new Promise<boolean>((resolve) => {
      Reflect.set(prototype, 'write', async function (this: FileHandle, ...given: unknown[]): Promise<never> {
        Reflect.set(prototype, 'write', write);
        const written = await write.apply(this, given);
        void (async () => {
          for (let step = 0; step < steps; step++) await Promise.resolve();
          put(copy, 'later', steps, { steps });
          copy.commit({ n: steps });
          resolve(await copy.flushed());
        })();
        return written;
      });
    });
    put(copy, 'first', steps, {});
    copy.commit({ n: -1 });
    const flushed = copy.flushed();
    t.ok(await isWritten, `${steps} steps after the write`);
    t.ok(await flushed);
    t.match(await contents(path), { n: steps, values: { later: { steps } } });
  }
  await copy.close();
});
