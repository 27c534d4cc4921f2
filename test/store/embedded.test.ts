/**
 * The embedded store: acknowledged changes are there after anything; damage is refused, and the file is not modified.
 */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { WeftError } from '../../src/error.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { decode, encodeRecord } from '../../src/store/journal.ts';
import type { Store } from '../../src/store/store.ts';
import { Background, until } from '../support/process.ts';

// It starts many processes, one after the other.
t.setTimeout(600_000);

const writer = fileURLToPath(new URL('store.process.ts', import.meta.url));

function temporary(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), `weft-store-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, 'state');
}

async function open(directory: string): Promise<{ store: Store; warnings: string[] }> {
  const warnings: string[] = [];
  const onWarning = (message: string): number => warnings.push(message);
  return { store: await openEmbeddedStore({ directory, onWarning, after: () => () => {} }), warnings };
}

async function refusal(step: Promise<unknown>): Promise<WeftError> {
  try {
    await step;
  } catch (error) {
    if (error instanceof WeftError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

/** Puts keys `k/0` … one after the other, so that each is a record. */
async function fill(directory: string, count: number): Promise<void> {
  const { store } = await open(directory);
  for (let i = 0; i < count; i++) await store.transact({ put: [{ key: `k/${i}`, value: { i, text: 'é\n' } }] });
  await store.close();
}

t.test('entries, revisions, expectations', async (t) => {
  const directory = temporary(t);
  const { store } = await open(directory);
  t.equal(statSync(directory).mode & 0o777, 0o700);
  const value = { subnets: ['10.0.0.0/24'] };
  await store.transact({
    expect: [{ key: 'n/b', revision: 0 }],
    put: [
      { key: 'n/b', value },
      { key: 'n/a', value: 1 },
      { key: 'm', value: null },
    ],
  });
  value.subnets.push('changed afterwards');
  t.same(
    (await store.list('n/')).entries.map(({ key, value }) => [key, value]),
    [
      ['n/a', 1],
      ['n/b', { subnets: ['10.0.0.0/24'] }],
    ],
  );
  const before = (await store.get('n/b'))!;
  t.throws(() => (before.value as string[]).push('x'), 'entries are frozen');

  const stale = await refusal(
    store.transact({ expect: [{ key: 'n/b', revision: 0 }], put: [{ key: 'z', value: 1 }], delete: ['n/a'] }),
  );
  t.equal(stale.code, 'conflict');
  t.match(stale.message, '"n/b"');
  t.equal(await store.get('z'), undefined, 'nothing of it is done');
  t.ok(await store.get('n/a'));

  const race = await Promise.allSettled(
    [1, 2, 3].map((value) =>
      store.transact({ expect: [{ key: 'n/b', revision: before.revision }], put: [{ key: 'n/b', value }] }),
    ),
  );
  t.same(
    race.map(({ status }) => status),
    ['fulfilled', 'rejected', 'rejected'],
  );
  await store.transact({ delete: ['n/a', 'nothing'] });
  t.equal((await refusal(store.transact({ put: [{ key: 'k', value: 1 }], delete: ['k'] }))).code, 'internal');
  await store.close();
  t.equal((await refusal(store.transact({ put: [{ key: 'late', value: 1 }] }))).code, 'conflict');

  const again = await open(directory);
  t.same(
    (await again.store.list('')).entries.map(({ key, value }) => [key, value]),
    [
      ['m', null],
      ['n/b', 1],
    ],
  );
  t.same(again.warnings, []);
  await again.store.close();
  await again.store.close();
});

t.test('transactions that wait together are one record', async (t) => {
  const directory = temporary(t);
  const { store } = await open(directory);
  await Promise.all(Array.from({ length: 500 }, (_, i) => store.transact({ put: [{ key: `k${i}`, value: i }] })));
  await store.close();
  const bytes = readFileSync(join(directory, 'journal'));
  const lines = bytes.toString().split('\n').length - 1;
  t.ok(lines <= 5, `${lines} lines`);
  const decoded = decode(bytes);
  t.equal(decoded.kind === 'sound' && decoded.transactions.length, 500);
});

t.test('a record that is cut at any byte is dropped, with a warning; the rest goes on', async (t) => {
  const directory = temporary(t);
  await fill(directory, 4);
  const path = join(directory, 'journal');
  const whole = readFileSync(path);
  const lastStart = whole.lastIndexOf(10, whole.length - 2) + 1;
  let named = 0;
  for (let length = lastStart; length < whole.length; length++) {
    writeFileSync(path, whole.subarray(0, length));
    const { store, warnings } = await open(directory);
    const keys = (await store.list('')).entries.map(({ key }) => key);
    await store.transact({ put: [{ key: 'after', value: length }] });
    await store.close();
    const reopened = await open(directory);
    const isAfter = (await reopened.store.get('after'))?.value === length;
    await reopened.store.close();
    const isTorn = length > lastStart;
    if (length > lastStart + 60) named += warnings.join().includes('of k/3 ') ? 1 : 0;
    if (isTorn) {
      const aside = `${path}.torn-${lastStart}`;
      const isKept = readFileSync(aside).equals(whole.subarray(lastStart, length)) && warnings[0]?.includes(aside);
      if (!isKept) t.fail(`cut at ${length}: ${warnings.join()}`);
      rmSync(aside);
    }
    if (keys.join() !== 'k/0,k/1,k/2' || warnings.length !== (isTorn ? 1 : 0) || !isAfter || reopened.warnings.length) {
      t.fail(`cut at ${length}: ${keys.join()}; ${warnings.join()}`);
    }
  }
  t.ok(whole.length - lastStart > 50, 'there were bytes to cut');
  t.ok(named > 0, 'what is left of it says what it was about');
});

t.test('a changed byte is damage, also in the last record', async (t) => {
  const directory = temporary(t);
  await fill(directory, 4);
  const whole = readFileSync(join(directory, 'journal'));
  const lastStart = whole.lastIndexOf(10, whole.length - 2) + 1;
  let refused = 0;
  for (let at = 0; at < whole.length; at++) {
    const flips = [1, 0x80, whole[at]! ^ 10, ...Array.from({ length: 8 }, (_, bit) => 1 << bit)];
    for (const flip of flips) {
      if (flip === 0) continue;
      const bytes = Buffer.from(whole);
      bytes[at]! ^= flip;
      const decoded = decode(bytes);
      if (decoded.kind !== 'damaged' || decoded.atByte > at) {
        t.fail(`byte ${at} ^ ${flip}: ${JSON.stringify(decoded).slice(0, 200)}`);
      } else if (at >= lastStart) {
        // A line feed in the middle turns it into two.
        t.equal(decoded.isLast, bytes[at] !== 10, `byte ${at} of the last record`);
        refused++;
      } else refused++;
    }
  }
  t.ok(refused > lastStart * 2, `${refused} refused`);

  const lines = whole.toString('latin1').split(/(?<=\n)/);
  for (const missing of [0, 1, 2, 3, 4]) {
    const text = lines.filter((_, index) => index !== missing).join('');
    t.equal(decode(Buffer.from(text, 'latin1')).kind, 'damaged', `without line ${missing + 1}`);
  }
  t.equal(decode(Buffer.alloc(0)).kind, 'damaged');
});

t.test('of many torn ends, the latest are kept', async (t) => {
  const directory = temporary(t);
  await fill(directory, 1);
  const torn = (): string[] => readdirSync(directory).filter((name) => name.includes('.torn-'));
  let end = '0123abcd [{"revision":';
  for (let crash = 0; crash < 20; crash++) {
    end += 'x';
    appendFileSync(join(directory, 'journal'), end);
    const { store, warnings } = await open(directory);
    await store.close();
    t.match(warnings, [/is discarded; its \d+ bytes are in /]);
  }
  t.equal(torn().length, 16);
  t.equal(Math.max(...torn().map((name) => statSync(join(directory, name)).size)), end.length, 'with the last one');
});

t.test('blocks of the last record that were never written: it is torn, whichever they are', async (t) => {
  const directory = temporary(t);
  const { store } = await open(directory);
  await store.transact({ put: [{ key: 'k/0', value: 0 }] });
  await store.transact({ put: [{ key: 'k/big', value: 'x'.repeat(5000) }] });
  await store.close();
  const path = join(directory, 'journal');
  const whole = readFileSync(path);
  const lastStart = whole.lastIndexOf(10, whole.length - 2) + 1;
  for (let from = lastStart; from < whole.length; from = (Math.floor(from / 512) + 1) * 512) {
    const bytes = Buffer.from(whole);
    bytes.fill(0, from, Math.min(bytes.length, (Math.floor(from / 512) + 1) * 512));
    t.match(decode(bytes), { kind: 'sound', lengthBytes: lastStart }, `the block at ${from}`);
  }
  const zeroed = Buffer.from(whole);
  zeroed.fill(0, lastStart + 100, lastStart + 110);
  t.match(decode(zeroed), { kind: 'damaged', atByte: lastStart }, 'zeros that are no block are damage');
});

t.test('a damaged last record is left where it is, and is named', async (t) => {
  const directory = temporary(t);
  await fill(directory, 3);
  const path = join(directory, 'journal');
  const bytes = readFileSync(path);
  const lastStart = bytes.lastIndexOf(10, bytes.length - 2) + 1;
  bytes[bytes.length - 8]! ^= 1;
  writeFileSync(path, bytes);
  const { code, message } = await refusal(open(directory));
  t.equal(code, 'state');
  t.match(message, `journal is damaged at byte ${lastStart}, in a change of k/2: restore it from a backup`);
  t.same(readFileSync(path), bytes);

  const [, command = ''] = /`(cp .*)`/.exec(message) ?? [];
  execFileSync('sh', ['-c', command]);
  t.same(readFileSync(`${path}.damaged`), bytes, 'what the message says keeps the bytes');
  const { store, warnings } = await open(directory);
  t.same(
    (await store.list('')).entries.map(({ key }) => key),
    ['k/0', 'k/1'],
    'and it starts without that change',
  );
  t.same(warnings, []);
  await store.close();
});

t.test('what is damaged or newer is refused in one line, and not touched', async (t) => {
  const directory = temporary(t);
  await fill(directory, 3);
  const path = join(directory, 'journal');
  const whole = readFileSync(path);
  const headerEnd = whole.indexOf(10) + 1;
  for (const [bytes, message] of [
    [
      Buffer.concat([whole.subarray(0, headerEnd), Buffer.from('x'), whole.subarray(headerEnd)]),
      `state directory ${directory}: journal is damaged at byte ${headerEnd}: restore it from a backup, or move it away to start empty`,
    ],
    [
      Buffer.concat([whole, whole]),
      `state directory ${directory}: journal is damaged at byte ${whole.length}: restore it from a backup, or move it away to start empty`,
    ],
    [
      Buffer.concat([encodeRecord({ file: 'weft journal', format: 3 }), Buffer.from('what the future brings')]),
      `state directory ${directory} was written by a newer version of weft (format 3, this one reads 2)`,
    ],
  ] as const) {
    writeFileSync(path, bytes);
    const error = await refusal(open(directory));
    t.equal(error.code, 'state');
    t.equal(error.message, message);
    t.same(readFileSync(path), bytes);
    t.notOk(existsSync(join(directory, 'pid')));
  }
  writeFileSync(path, whole);
  const { store } = await open(directory);
  t.equal((await store.list('')).entries.length, 3, 'and the lock was let go');
  await store.close();
});

t.test('the journal is compacted when it has grown', async (t) => {
  const directory = temporary(t);
  const { store, warnings } = await open(directory);
  const text = 'x'.repeat(10_000);
  for (let i = 0; i < 300; i++) {
    await store.transact({ put: [{ key: `k/${i % 3}`, value: { i, text } }], delete: i === 200 ? ['gone'] : [] });
    if (i === 100) await store.transact({ put: [{ key: 'gone', value: 1 }] });
  }
  const before = (await store.list('')).entries;
  await store.close();
  const { size } = statSync(join(directory, 'journal'));
  t.ok(size < 1_200_000, `${size} bytes, of 3 MB written`);
  t.notOk(existsSync(join(directory, 'journal.new')));

  writeFileSync(join(directory, 'journal.new'), 'left over by a crash');
  const again = await open(directory);
  t.same((await again.store.list('')).entries, before, 'values and revisions');
  t.same([...warnings, ...again.warnings], []);
  await again.store.close();
});

t.test('a directory that cannot be used is refused by name', async (t) => {
  const file = temporary(t);
  writeFileSync(file, '');
  for (const directory of [file, join(file, 'below'), '/proc/weft']) {
    const error = await refusal(open(directory));
    t.equal(error.code, 'system');
    t.match(error.message, directory);
    t.notMatch(error.message, '\n');
  }
  chmodSync(file, 0o600);
});

t.test('what was acknowledged is kept when somebody deletes the journal, or all of the directory', async (t) => {
  const directory = temporary(t);
  const { store, warnings } = await open(directory);
  await store.transact({ put: [{ key: 'a', value: 1 }] });
  const journal = join(directory, 'journal');
  for (const [n, gone] of [journal, directory].entries()) {
    rmSync(gone, { recursive: true });
    await store.transact({ put: [{ key: `b${n}`, value: n }] });
    t.match(warnings.at(-1), /its journal had been deleted, and is written again$/);
    t.equal((await refusal(open(directory))).code, 'conflict', 'and it is still locked');
  }
  const before = (await store.list('')).entries;
  t.equal(before.length, 3);

  // While the directory cannot be made, nothing is written; then it goes on.
  rmSync(directory, { recursive: true });
  writeFileSync(directory, 'in the way');
  const error = await refusal(store.transact({ put: [{ key: 'c', value: 1 }] }));
  t.equal(error.code, 'system');
  t.match(error.message, directory);
  t.same((await store.list('')).entries, before);
  rmSync(directory);
  await store.transact({ put: [{ key: 'c', value: 2 }] });

  // Of two journals, nobody but the operator knows which one it is to be.
  renameSync(journal, `${journal}.own`);
  writeFileSync(journal, 'a backup');
  const other = await refusal(store.transact({ put: [{ key: 'd', value: 1 }] }));
  t.match(other.message, /cannot be written: another journal is in the place of its own/);
  t.equal(readFileSync(journal, 'utf8'), 'a backup');
  renameSync(`${journal}.own`, journal);
  await store.transact({ put: [{ key: 'd', value: 2 }] });
  const last = (await store.list('')).entries;
  await store.close();
  const again = await open(directory);
  t.same((await again.store.list('')).entries, last);
  t.same(
    last.map(({ key, value }) => [key, value]),
    [
      ['a', 1],
      ['b0', 0],
      ['b1', 1],
      ['c', 2],
      ['d', 2],
    ],
  );
  await again.store.close();
});

const start = (...words: string[]): Background => new Background([process.execPath, '--import=tsx', writer, ...words]);

t.test('kill -9 of a writer: what was acknowledged is there, and the directory free', async (t) => {
  t.setTimeout(600_000);
  const directory = temporary(t);
  let highest = -1;
  for (let round = 0; round < 8; round++) {
    const child = start('write', directory, String(highest + 1));
    try {
      await until(() => child.lines.length > 5 + round * 7, { what: `writes\n${child.stderr}` });
      child.signal('SIGKILL');
      await child.wait();
    } finally {
      child.signal('SIGKILL');
    }
    const acknowledged = child.lines.map(({ text }) => Number(text));
    const { store } = await open(directory);
    const kept = new Set((await store.list('k/')).entries.map(({ value }) => value));
    const lost = acknowledged.filter((number) => !kept.has(number));
    t.same(lost, [], `${acknowledged.length} acknowledged`);
    highest = Math.max(...(kept as Set<number>));
    await store.close();
  }
});

t.test('of several starters one gets the directory, the others name it', async (t) => {
  t.setTimeout(600_000);
  const directory = temporary(t);
  for (let round = 0; round < 3; round++) {
    const children = [1, 2, 3, 4].map(() => start('hold', directory));
    try {
      await Promise.all(children.map((child) => child.says('\n')));
      const held = children.filter(({ stdout }) => stdout === 'held\n');
      t.equal(held.length, 1, children.map(({ stdout }) => stdout.trim()).join(' | '));
      const refused = `conflict state directory ${directory} is in use by weft with pid ${held[0]?.pid}`;
      for (const child of children) if (child !== held[0]) t.ok(child.stdout.startsWith(refused), child.stdout);
      t.match((await refusal(open(directory))).message, `pid ${held[0]?.pid}`);
    } finally {
      // The next round takes over from one that was killed.
      for (const child of children) await child.stop('SIGKILL');
    }
  }
  const { store } = await open(directory);
  t.match((await refusal(open(directory))).message, `pid ${process.pid}`, 'also within one process');
  await store.close();
});
