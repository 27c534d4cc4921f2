/** Flow classes: however many conversations there are, there are never too many, and nobody pushes out those of others. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { OUTSIDE } from '../../src/flow/connection.ts';
import { formatIp, parseIp, type Vni } from '../../src/flow/types.ts';
import { readClasses, writeClasses } from '../../src/observe/classes/class-file.ts';
import type { ClassEnd, FlowClass, Talk } from '../../src/observe/classes/flow-class.ts';
import {
  FlowClasses,
  KEPT_MS,
  MOST_CLASSES,
  MOST_OF_SOURCE,
  type Seen,
} from '../../src/observe/classes/flow-classes.ts';
import { Random } from '../support/random.ts';

t.setTimeout(300_000);

const BLUE = 100 as Vni;
const [TCP, UDP] = [6, 17];
const [MINUTE, HOUR, DAY] = [60_000, 3_600_000, 86_400_000];
/** Some time. */
const NOW = 1_800_000_000_000;
const MOST_OF_ONE = Object.values(MOST_OF_SOURCE).reduce((sum, most) => sum + most, 0);

const identities = new Map<string, ClassEnd['identity']>();
function workload(name: string, address: string, app = name, more: Partial<ClassEnd> = {}): ClassEnd {
  const identity = identities.get(app) ?? { namespace: 'shop', labels: { app }, ports: [] };
  identities.set(app, identity);
  return { address: parseIp(address), endpoint: `shop/${name}`, identity, subject: `shop/${name}`, ...more };
}
const nobody = (address: string): ClassEnd => ({ address: parseIp(address) });
const web = workload('web', '10.0.0.2');
const db = workload('db', '10.0.0.3');
const cron = workload('cron', '10.0.0.4');

function talk(from: ClassEnd, to: ClassEnd, l4Port: number, protocol = TCP): Talk {
  return { places: [BLUE, BLUE], from, to, protocol, l4Port, meant: to.address };
}
function seen(atMs: number, more: Partial<Seen> = {}): Seen {
  return { verdict: 'allow', firstSeenMs: atMs, lastSeenMs: atMs, opened: 1, denied: 0, ...more };
}
const text = ({ from, to, protocol, l4Port, level, opened, denied }: FlowClass): string =>
  `${from.endpoint ?? formatIp(from.address)} ${to.endpoint ?? formatIp(to.address)} ${protocol}/${l4Port} ${level} ${opened}+${denied}`;
const texts = (classes: FlowClasses): string[] => [...classes.values()].map(text).sort();
const ofLevel = (classes: FlowClasses, level: FlowClass['level']): FlowClass[] =>
  [...classes.values()].filter((one) => one.level === level);

t.test('conversations that are alike are one class, with the first and the last time', (t) => {
  const classes = new FlowClasses();
  const one = classes.note(talk(web, db, 5432), seen(NOW));
  t.equal(classes.note(talk(web, db, 5432), seen(NOW + HOUR, { opened: 2 })), one);
  t.match(one, { firstSeenMs: NOW, lastSeenMs: NOW + HOUR, opened: 3, verdict: 'allow', level: 'exact' });
  classes.note(talk(web, db, 5432), seen(NOW + MINUTE, { verdict: 'deny', opened: 0, denied: 1 }));
  t.match(one, { verdict: 'allow', denied: 1 }, 'what was seen last counts');
  classes.note(talk(web, db, 5432, UDP), seen(NOW));
  classes.note(talk(db, web, 5432), seen(NOW));
  classes.note({ ...talk(web, db, 5432), meant: parseIp('10.96.0.1') }, seen(NOW));
  t.equal(classes.size, 4, 'another protocol, the other direction, through a service');
  t.ok(classes.refresh(one, NOW + 2 * HOUR));
  t.equal(one.lastSeenMs, NOW + 2 * HOUR);
  t.end();
});

t.test('a scan of a million ports keeps what cron did an hour ago, also if cron itself is the scanner', (t) => {
  for (const [scanner, count] of [
    [web, 1_000_000],
    [cron, 100_000],
  ] as const) {
    const classes = new FlowClasses();
    classes.note(talk(cron, db, 5432), seen(NOW - HOUR));
    for (let n = 0; n < count; n++) {
      const target = nobody(`10.${n >> 16}.0.${n & 1 ? 3 : 4}`);
      classes.note(talk(scanner, target, n & 0xffff), seen(NOW + n / 100));
    }
    classes.keep(NOW + MINUTE);
    t.ok(classes.size <= MOST_OF_ONE + 1, `there are ${classes.size}`);
    t.ok(texts(classes).includes('shop/cron shop/db 6/5432 exact 1+0'));
    const opened = [...classes.values()].reduce((sum, one) => sum + one.opened, 0);
    t.equal(opened, count + 1, 'all of them are counted somewhere');
    t.equal(classes.givenUp, 0);
  }
  t.end();
});

t.test('who talks to very many is known less exactly; the last one stands for the others', (t) => {
  const classes = new FlowClasses();
  for (let n = 0; n < MOST_OF_SOURCE.exact; n++) classes.note(talk(web, db, 1000 + n), seen(NOW));
  classes.note(talk(web, db, 80), seen(NOW + 1));
  classes.note(talk(web, db, 81), seen(NOW + 2));
  t.same(ofLevel(classes, 'ports').map(text), ['shop/web shop/db 6/81 ports 2+0']);
  for (let n = 0; n < MOST_OF_SOURCE.ports; n++) classes.note(talk(web, nobody(`192.0.2.${n}`), 80), seen(NOW));
  classes.note(talk(web, nobody('198.51.100.1'), 80), seen(NOW + 3));
  classes.note(talk(web, nobody('198.51.7.2'), 443), seen(NOW + 4));
  classes.note(talk(web, nobody('198.52.7.2'), 443), seen(NOW + 5));
  // One of 192.0.2.0 found no room among those of two ends.
  t.same(ofLevel(classes, 'block').map(text).sort(), [
    'shop/web 192.0.2.127 6/80 block 1+0',
    'shop/web 198.51.7.2 6/443 block 2+0',
    'shop/web 198.52.7.2 6/443 block 1+0',
  ]);
  for (let n = 0; n < MOST_OF_SOURCE.block; n++) classes.note(talk(web, nobody(`100.${n}.0.1`), 80), seen(NOW));
  classes.note(talk(web, nobody('203.0.113.9'), 25), seen(NOW + 6));
  t.same(ofLevel(classes, 'any').map(text), ['shop/web 203.0.113.9 6/25 any 4+0']);
  classes.note(talk(db, nobody('203.0.113.9'), 25), seen(NOW + 6));
  t.ok(texts(classes).includes('shop/db 203.0.113.9 6/25 exact 1+0'), 'others are known as exactly as before');

  const late = NOW + DAY + MINUTE;
  classes.note(talk(web, db, 1000), seen(late - 1));
  classes.note(talk(web, db, 7777), seen(late));
  t.ok(texts(classes).includes('shop/web shop/db 6/7777 exact 1+0'), 'one not seen for a day gives way');
  t.ok(texts(classes).includes('shop/web shop/db 6/1000 exact 2+0'), 'and that is not the one that was');
  t.match(ofLevel(classes, 'ports').map(text), ['shop/web shop/db 6/81 ports 3+0'], 'it is counted among the others');
  t.end();
});

t.test('clients from outside are those of whom they come to', (t) => {
  const classes = new FlowClasses();
  const from = (n: number): Talk => ({
    ...talk(nobody(`203.${n >> 16}.${(n >> 8) & 255}.${n & 255}`), db, 80),
    places: [OUTSIDE, BLUE],
  });
  for (let n = 0; n < 100_000; n++) classes.note(from(n), seen(NOW));
  classes.note(talk(nobody('203.0.113.1'), web, 80), seen(NOW));
  t.equal(ofLevel(classes, 'exact').length, MOST_OF_SOURCE.exact + 1);
  t.ok(classes.size <= MOST_OF_ONE + 1);
  t.end();
});

t.test('too many sources: whoever has the most gives up what it has not seen for longest', (t) => {
  const classes = new FlowClasses(1000);
  for (let n = 0; n < 300; n++) classes.note(talk(web, db, n), seen(NOW + n));
  for (let source = 0; source < 400; source++) {
    const one = workload(`w${source}`, `10.1.${source >> 8}.${source & 255}`);
    classes.note(talk(one, db, 5432), seen(NOW - HOUR));
    classes.note(talk(one, db, 80), seen(NOW - HOUR));
  }
  t.equal(classes.size, 257 + 800, 'those of one source are bounded by then');
  classes.keep(NOW + HOUR);
  t.equal(classes.size, 1000);
  t.equal(classes.givenUp, 57);
  const left = texts(classes);
  t.equal(left.filter((line) => !line.startsWith('shop/web')).length, 800, 'nobody else has lost one');
  t.notOk(left.includes('shop/web shop/db 6/0 exact 1+0'));
  t.ok(left.includes('shop/web shop/db 6/255 exact 1+0'));
  const many = new FlowClasses(10);
  for (let n = 0; n < 100; n++) {
    many.note(talk(workload(`w${n}`, `10.1.0.${n}`), db, 80), seen(NOW + n));
  }
  many.keep(NOW + HOUR);
  t.same([many.size, many.givenUp], [10, 90], 'also if there are more sources than that');
  t.end();
});

t.test('a week later they are forgotten; a clock that was ahead keeps nothing for longer', (t) => {
  const classes = new FlowClasses();
  classes.note(talk(web, db, 1), seen(NOW));
  classes.note(talk(web, db, 2), seen(NOW + HOUR));
  const ahead = classes.note(talk(web, db, 3), seen(NOW + 100 * DAY));
  classes.keep(NOW + KEPT_MS);
  t.same(texts(classes), ['shop/web shop/db 6/2 exact 1+0', 'shop/web shop/db 6/3 exact 1+0']);
  t.equal(ahead.lastSeenMs, NOW + KEPT_MS);
  classes.keep(NOW + 2 * KEPT_MS);
  t.equal(classes.size, 0);
  t.end();
});

t.test('workloads that have gone are one class if they were alike, whatever their names', (t) => {
  const classes = new FlowClasses();
  for (let n = 0; n < 2000; n++) {
    const run = workload(`cron-${n}`, `10.2.${n >> 8}.${n & 255}`, 'cron');
    const one = classes.note(talk(run, db, 5432), seen(NOW + n * MINUTE));
    classes.change(one, { from: { ...run, isGone: true }, to: one.to });
  }
  t.same(texts(classes), ['shop/cron-1999 shop/db 6/5432 exact 2000+0']);
  t.match([...classes.values()][0], { firstSeenMs: NOW, lastSeenMs: NOW + 1999 * MINUTE });
  t.end();
});

t.test('random conversations: the bounds hold, and all of them are counted until one is given up', (t) => {
  const seed = Date.now() >>> 0;
  t.comment(`seed ${seed}`);
  const random = new Random(seed);
  const ends = Array.from({ length: 40 }, (_, n) =>
    n % 4 === 0 ? nobody(`192.0.2.${n}`) : workload(`r${n}`, `10.3.0.${n}`, `app${n % 5}`),
  );
  const classes = new FlowClasses(2000);
  let [opened, now] = [0, NOW];
  for (let n = 0; n < 60_000; n++) {
    now += random.int(4000);
    const [from, to] = [random.pick(ends), random.pick(ends)];
    const one = classes.note(talk(from, to, random.chance(0.5) ? 80 : random.int(500)), seen(now));
    opened++;
    if (random.chance(0.001) && from.endpoint !== undefined) {
      classes.change(one, { from: { ...from, isGone: true }, to });
    }
    if (n % 5000 === 4999) {
      const counted = [...classes.values()].reduce((sum, { opened: count }) => sum + count, 0);
      if (classes.givenUp === 0) t.equal(counted, opened);
      classes.keep(now);
      t.ok(classes.size <= 2000);
      for (const { firstSeenMs, lastSeenMs } of classes.values()) if (firstSeenMs > lastSeenMs) t.fail('times');
    }
  }
  t.end();
});

t.test('in a file', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), `weft-classes-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'flow-classes');
  t.same(await readClasses(path), [], 'there is none');
  const classes = new FlowClasses();
  classes.note(talk(web, db, 5432), seen(NOW + 0.25));
  classes.note(talk(workload('old', 'fd00::4', 'web', { isGone: true }), nobody('fe80::1'), 53, UDP), seen(NOW));
  classes.note(
    { ...talk(nobody('203.0.113.1'), { ...db, subject: undefined }, 80), places: [OUTSIDE, BLUE] },
    seen(NOW, { verdict: 'deny', opened: 0, denied: 7 }),
  );
  for (let n = 0; n < MOST_OF_SOURCE.exact + 2; n++) classes.note(talk(cron, db, n), seen(NOW));
  await writeClasses(path, classes.values());
  const restored = new FlowClasses();
  for (const one of await readClasses(path)) restored.restore(one);
  t.same(texts(restored), texts(classes));
  const end = ({ address, endpoint, identity, subject, isGone }: ClassEnd) =>
    [formatIp(address), endpoint, identity, subject, isGone] as const;
  const everything = (all: FlowClasses) =>
    [...all.values()].map(
      ({ from, to, places, verdict, firstSeenMs, meant }) =>
        [end(from), end(to), places, verdict, Math.round(firstSeenMs), formatIp(meant)] as const,
    );
  t.same(everything(restored), everything(classes));
  t.equal(readFileSync(path, 'utf8').match(/"labels":\{"app":"web"\}/g)?.length, 1, 'labels are there once');
  await writeClasses(path, restored.values());
  t.same(readdirSync(directory), ['flow-classes']);

  const whole = readFileSync(path, 'utf8');
  for (const [damage, message] of [
    ['', /another version/],
    ['{"flowClasses":2}\n', /another version/],
    [whole.slice(0, whole.length / 2), /damaged/],
    [whole.slice(0, whole.lastIndexOf('{"end"')), /damaged|end is missing/],
    [whole.replace('"opened":1', '"opened":-1'), /line \d+ is damaged/],
    [whole.replace('"identity":0', '"identity":99'), /identity is missing/],
    [`${whole}{"end":1}\n`, /end is missing/],
    ['\0'.repeat(1000), /another version/],
  ] as const) {
    writeFileSync(path, damage);
    await t.rejects(readClasses(path), { code: 'state', message });
  }
  await t.rejects(writeClasses(join(directory, 'none', 'file'), []), /ENOENT/);
});

t.ok(MOST_CLASSES > 10 * MOST_OF_ONE);
