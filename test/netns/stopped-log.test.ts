/**
 *   web ── weft ── db
 *            │ stderr: a pipe, full, that nobody reads
 *
 * The daemon continues to decide, to answer and to stop.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { ping } from '../support/traffic.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

await t.test('the reader of stderr stops', async (t) => {
  const lab = openLab(t);
  const path = join(lab.directory, 'log');
  execFileSync('mkfifo', [path]);
  const [reader, filler] = [constants.O_RDONLY, constants.O_WRONLY].map((mode) =>
    openSync(path, mode | constants.O_NONBLOCK),
  ) as [number, number];
  t.teardown(() => [reader, filler].forEach(closeSync));

  const host = await lab.namespace('host');
  const within = ['sh', '-c', `exec "$@" 2>${path}`, 'sh'];
  const weft = await Weft.up(lab, host, 'a', { datapath: 'native', within });
  t.throws(() => {
    for (;;) writeSync(filler, '\0'.repeat(4096));
  }, 'the pipe is full');

  await weft.createNetwork('blue --subnet 10.44.0.0/24');
  const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
  await weft.attach(web, { network: 'blue', arguments: ['--ip', '10.44.0.11'] });
  await weft.attach(db, { network: 'blue', arguments: ['--ip', '10.44.0.12'] });
  await ping(web, '10.44.0.12');
  t.equal((await weft.status()).endpoints, 2);

  let text = '';
  const part = Buffer.alloc(65_536);
  await until(
    () => {
      text += part.toString('utf8', 0, readSync(reader, part));
      return text.includes('"name":"db","msg":"created"');
    },
    { what: 'what was written meanwhile is read' },
  );
  t.throws(() => {
    for (;;) writeSync(filler, '\0'.repeat(4096));
  });
  await weft.close();
});
