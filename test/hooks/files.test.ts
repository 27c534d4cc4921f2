/** Hooks in files: what is read of them, and when. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { HookFiles } from '../../src/hooks/files.ts';
import type { WantedHook } from '../../src/hooks/keeper.ts';

t.test('a file is wanted when it changes, also by a symbolic link on its path', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weft-hooks-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const at = (...names: string[]): string => join(directory, ...names);
  for (const version of ['1', '2']) {
    mkdirSync(at(version));
    writeFileSync(at(version, 'fence.ts'), `version ${version}`);
  }
  symlinkSync('1', at('current'));
  symlinkSync('current/fence.ts', at('fence.ts'));
  writeFileSync(at('other.ts'), 'other');
  const wanted: (readonly (readonly [string, WantedHook])[])[] = [];
  const files = new HookFiles([at('fence.ts'), at('other.ts')], { set: async (all) => void wanted.push(all) });
  const looked = async () => {
    wanted.splice(0);
    await files.look();
    return wanted.map((all) => all.map(([id, { file, source, why }]) => [id, file, source ?? why]));
  };
  const fence = (text: string) => [at('fence.ts'), 'fence.ts', text];
  t.same(await looked(), [[fence('version 1'), [at('other.ts'), 'other.ts', 'other']]], 'all at once');
  t.same(await looked(), []);
  symlinkSync('2', at('new'));
  renameSync(at('new'), at('current'));
  t.same(await looked(), [[fence('version 2')]]);
  rmSync(at('2', 'fence.ts'));
  t.match(await looked(), [[[at('fence.ts'), 'fence.ts', /fence\.ts cannot be read: ENOENT/]]]);
  t.same(await looked(), [], 'it is told once');
});
