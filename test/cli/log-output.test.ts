/** The daemon's log over a pipe whose reader stops: nothing waits for it, and lines that are left out are counted. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { LogOutput } from '../../src/cli/log-output.ts';
import { until } from '../support/process.ts';

const directory = mkdtempSync(join(tmpdir(), `weft-log-${process.pid}-`));
t.teardown(() => rmSync(directory, { recursive: true }));

/** A full pipe: both ends of it. */
function fullPipe(name: string): { reader: number; writer: number } {
  const path = join(directory, name);
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  try {
    for (;;) writeSync(writer, '\0'.repeat(4096));
  } catch {
    return { reader, writer };
  }
}

function read(fd: number): string {
  const parts: Buffer[] = [];
  try {
    for (;;) {
      const part = Buffer.alloc(65_536);
      const bytes = readSync(fd, part);
      if (bytes === 0) break;
      parts.push(part.subarray(0, bytes));
    }
  } catch {
    // There is no more to read at the moment.
  }
  return Buffer.concat(parts).toString().replaceAll('\0', '');
}

t.test('lines wait, in order; those beyond the limit are counted', async (t) => {
  const { reader, writer } = fullPipe('stopped');
  const line = (number: number): string => `${String(number).padStart(9, '0')}\n`;
  const output = new LogOutput({ fd: writer, limitBytes: 1000, lostLine: (lines) => `lost ${lines}\n` });
  for (let number = 0; number < 250; number++) output.write(line(number));
  let text = '';
  await until(
    () => {
      text += read(reader);
      return text.includes('lost');
    },
    { what: 'the reader has caught up' },
  );
  const kept = Array.from({ length: 100 }, (_, number) => line(number)).join('');
  t.equal(text, `${kept}lost 150\n`);
  output.write(line(250));
  t.equal(read(reader), line(250), 'and what comes then is written at once');
  closeSync(reader);
  output.write(line(251));
  t.pass('a reader that has gone is no failure');
  // It tries again, so its descriptor must remain its own.
});

t.test('what a reader that has gone did not get is told to the next one', async (t) => {
  const path = join(directory, 'gone');
  execFileSync('mkfifo', [path]);
  const openReader = (): number => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const first = openReader();
  const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  closeSync(first);
  const output = new LogOutput({ fd: writer, lostLine: (lines) => `lost ${lines}\n` });
  for (let number = 0; number < 5; number++) output.write('line\n');
  // Reporting them fails as well, however often it is tried.
  for (let tries = 0; tries < 3; tries++) output.flush();
  const second = openReader();
  let text = '';
  await until(
    () => {
      text += read(second);
      return text.includes('lost');
    },
    { what: 'the second reader is told' },
  );
  t.equal(text, 'lost 5\n');
  closeSync(second);
});

t.test('a line that is taken in part is finished', async (t) => {
  const { reader, writer } = fullPipe('part');
  const output = new LogOutput({ fd: writer, limitBytes: 1 << 20, lostLine: () => 'lost\n' });
  const long = `${'x'.repeat(200_000)}\n`;
  output.write(long);
  output.write('next\n');
  let text = '';
  await until(
    () => {
      text += read(reader);
      return text.endsWith('next\n');
    },
    { what: 'all of it' },
  );
  t.ok(text === `${long}next\n`, `${text.length} bytes, as they were written`);
  closeSync(reader);
  closeSync(writer);
});
