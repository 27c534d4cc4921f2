/** The package for Debian: made, and unpacked; the program in it runs. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import t from 'tap';
import { attempt, run } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';

t.setTimeout(900_000);

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), `weft-deb-${process.pid}-`));
t.teardown(() => rmSync(directory, { recursive: true }));

t.test('it has the program, its pages and completions, and the unit', { skip: needsRoot }, async (t) => {
  const longMs = { timeoutMs: 600_000 };
  await run([process.execPath, join(checkout, 'src/setup/setup.mjs'), '--for', 'package'], longMs);
  await run([process.execPath, join(checkout, 'src/setup/deb.mjs'), directory], longMs);
  const [archive = ''] = readdirSync(directory);
  t.match(archive, /^weft_\d+\.\d+\.\d+_\w+\.deb$/);
  const tree = join(directory, 'tree');
  await run(['dpkg-deb', '-x', join(directory, archive), tree]);
  const text = (path: string): string => readFileSync(join(tree, 'usr', path), 'utf8');

  t.match(await run([join(tree, 'usr/bin/weft'), '--version']), /^\d+\.\d+\.\d+\n$/);
  t.match(text('lib/systemd/system/weft.service'), /^ExecStart=\/usr\/bin\/weft up$/m);
  const page = gunzipSync(readFileSync(join(tree, 'usr/share/man/man1/weft-attach.1.gz'))).toString();
  t.match(page, '.SH SYNOPSIS');
  t.match(text('share/bash-completion/completions/weft'), 'complete -F _weft weft');
  t.match(text('share/zsh/vendor-completions/_weft'), '#compdef weft');
  t.match(text('share/fish/vendor_completions.d/weft.fish'), 'complete -c weft');
  t.notOk(existsSync(join(tree, 'usr/lib/weft/node_modules/raw-socket')), 'nothing that is for one Node.js alone');
  const hook = join(checkout, 'examples/hooks/fence.ts');
  t.match(
    await attempt([join(tree, 'usr/bin/weft'), 'hook', 'check', hook]),
    { code: 0 },
    'what compiles hooks is there',
  );
  t.match(await run(['dpkg-deb', '-f', join(directory, archive), 'Depends']), /^nodejs \(>= 20\.19\), /);
});
