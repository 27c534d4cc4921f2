/** `weft hook check`, as it is built: the examples are right, and what is wrong is told with its place. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { attempt } from '../support/process.ts';
import { weftCommand } from '../support/weft.ts';

t.setTimeout(240_000);

const examples = fileURLToPath(new URL('../../examples/hooks/', import.meta.url));
const check = (path: string, ...more: string[]) => attempt([...weftCommand, 'hook', 'check', path, ...more]);

for (const file of readdirSync(examples)) {
  await t.test(file, async (t) => {
    const { code, stdout, stderr } = await check(join(examples, file));
    t.equal(stderr, '');
    t.equal(code, 0);
    t.equal(stdout, `${file}: hook ${file.replace('.ts', '')} can be loaded\n`);
  });
}

t.test('what is wrong', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weft-check-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'fence.ts');
  const write = (body: string): void =>
    writeFileSync(
      path,
      `import { defineHook, deny } from 'weft';\nexport default defineHook({\n  name: 'fence',\n  onFlow(flow) {\n    ${body}\n  },\n});\n`,
    );
  write('const x = ;');
  t.match(await check(path), { code: 1, stderr: /^weft: fence\.ts:5:15: Unexpected ";"\n$/ });
  write('if (flow.source.adress === process.argv[0]) return deny(1);');
  const { code, stdout, stderr } = await check(path);
  t.equal(code, 1);
  t.match(stdout, /fence\.ts\(5,21\): error TS2551: Property 'adress' does not exist/);
  t.match(stdout, /Cannot find name 'process'/);
  t.match(stdout, /Argument of type 'number' is not assignable/);
  t.equal(stderr, 'weft: fence.ts: 3 errors in its types, as told above\n');
  t.match(JSON.parse((await check(path, '-o', 'json')).stdout), { name: 'fence', wrong: { length: 3 } });
  write(`return { verdict: 'deny', reason: 5 };`);
  const explained = await check(path);
  t.match(explained, { stderr: 'weft: fence.ts: 1 error in its types, as told above\n', stdout: /TS2322: .*\n {2}\S/ });
  writeFileSync(path, `import { defineHook } from 'weft';\nexport default defineHook({ name: 'x y', onFlow() {} });\n`);
  t.match(await check(path), { code: 1, stderr: /^weft: fence\.ts: name: "x y" is not a name: / });
  t.match(await check(join(directory, 'none.ts')), { code: 1, stderr: /none\.ts cannot be read/ });
});
