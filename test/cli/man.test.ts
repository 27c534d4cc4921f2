/** The manual pages, as groff reads them. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { plain } from './fixture.ts';

const directory = fileURLToPath(new URL('../../dist/man', import.meta.url));
const pages = new Map(readdirSync(directory).map((name) => [name, readFileSync(`${directory}/${name}`, 'utf8')]));

t.test('there is one for each command, with what its help has', async (t) => {
  const help = await plain(t, ['--help']);
  const verbs = [...help.stdout.matchAll(/^ {2}([a-z][a-z-]*)\b/gm)].map(([, name]) => `weft-${name}.1`);
  t.ok(verbs.length > 20);
  for (const name of ['weft.1', 'weft-network-create.1', ...verbs]) t.ok(pages.has(name), name);
  const attach = pages.get('weft-attach.1')!;
  t.match(attach, /^\.TH WEFT-ATTACH 1 "" "weft \d+\.\d+\.\d+" "weft"\n\.SH NAME\nweft\\-attach \\- /);
  t.match(attach, '.B \\-\\-network <name>\n');
  t.match(attach, '.SH EXAMPLES\n.nf\n  weft attach ');
  t.match(pages.get('weft-get.1'), '\nKinds: ');
  t.match(pages.get('weft.1'), '.BR weft\\-attach (1)');
});

t.test('no line of text is a request of roff', async (t) => {
  const requests = /^\.(?:TH|SH|TP|B|BR|nf|fi)\b|^[^.']|^$/;
  for (const [name, text] of pages) {
    t.same(
      text.split('\n').filter((line) => !requests.test(line)),
      [],
      name,
    );
  }
});
