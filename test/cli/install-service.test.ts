/** `weft install-service`: the unit starts this program. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { executable, plain } from './fixture.ts';

const directory = mkdtempSync(join(tmpdir(), `weft-service-${process.pid}-`));
t.teardown(() => rmSync(directory, { recursive: true }));
const unit = readFileSync(new URL('../../src/setup/weft.service', import.meta.url), 'utf8');

t.test('it is that of the package, with the command line of this program', async (t) => {
  const dir = join(directory, 'units');
  const path = join(dir, 'weft.service');
  t.same(await plain(t, ['install-service', '--dir', dir]), {
    code: 0,
    stdout: `${path} installed: start it with \`systemctl enable --now weft\`\n`,
    stderr: '',
  });
  const started = `ExecStart=${process.execPath} ${executable} up`;
  t.equal(readFileSync(path, 'utf8'), unit.replace('ExecStart=/usr/bin/env weft up', started));
  writeFileSync(path, 'an older one');
  t.match(await plain(t, ['install-service', '--dir', dir, '-o', 'json']), {
    code: 0,
    stdout: /"path": ".*weft\.service"/,
  });
  t.match(readFileSync(path, 'utf8'), started, 'it takes the place of an older one');
});

t.test('where it cannot be written, it says so', async (t) => {
  const file = join(directory, 'file');
  writeFileSync(file, '');
  const { code, stderr } = await plain(t, ['install-service', '--dir', file]);
  t.equal(code, 1);
  t.match(
    stderr,
    /^weft: .*file\/weft\.service cannot be written: .*; run it as root, or name another folder with --dir\n$/,
  );
});
