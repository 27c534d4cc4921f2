/** V8's compiled code of the program is used, and whatever is wrong with it, the program runs as without it. */
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';
import t, { type Test } from 'tap';
import { version } from '../../src/package.ts';
import { attempt, run } from '../support/process.ts';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const files = [
  'package.json',
  ...['package.json', 'weft.js', 'load-program.js', 'program.cjs', 'program.cjs.cache'].map(inDist),
];
const CHECKSUM_BYTES = 4;

class Copy {
  readonly #root: string;

  constructor(t: Test) {
    this.#root = t.testdir();
    mkdirSync(join(this.#root, 'dist/cli'), { recursive: true });
    for (const file of files) cpSync(join(checkout, file), join(this.#root, file));
  }

  path(name: string): string {
    return join(this.#root, inDist(name));
  }

  get program(): Buffer {
    return readFileSync(this.path('program.cjs'));
  }

  get cache(): Buffer {
    return readFileSync(this.path('program.cjs.cache'));
  }

  writeCache(bytes: Uint8Array): void {
    writeFileSync(this.path('program.cjs.cache'), bytes);
  }

  /** With a checksum that fits. */
  writeCompiled(compiled: Uint8Array): void {
    const checksum = Buffer.alloc(CHECKSUM_BYTES);
    checksum.writeUInt32LE(crc32(compiled, crc32(this.program)));
    this.writeCache(Buffer.concat([checksum, compiled]));
  }

  /** Does a start use the cache? Fails if the program does not run. */
  async isCompiled(t: Test): Promise<boolean> {
    const { code, stdout, stderr } = await attempt([process.execPath, this.path('weft.js'), '--version']);
    t.same({ code, stdout, stderr }, { code: 0, stdout: `${version}\n`, stderr: '' });
    const ask = `import(${JSON.stringify(this.path('load-program.js'))}).then((it) => console.log(it.loadProgram().isCompiled))`;
    return JSON.parse(await run([process.execPath, '-e', ask])) as boolean;
  }
}

t.test('as it was built, it is used', async (t) => {
  t.equal(await new Copy(t).isCompiled(t), true);
});

t.test('it has what a start runs, not only what loading the program runs', async (t) => {
  const copy = new Copy(t);
  const load = `import(${JSON.stringify(copy.path('load-program.js'))}).then(async (it) => {
    const { program, script } = it.loadProgram();
    await program.loadDaemon();
    console.log(script.createCachedData().length);
  })`;
  rmSync(copy.path('program.cjs.cache'));
  const loadedBytes = Number(await run([process.execPath, '-e', load]));
  const { length } = new Copy(t).cache;
  t.ok(length > 1.3 * loadedBytes, `${length} bytes, and ${loadedBytes} without a start`);
});

t.test('damaged, of another program, or of another Node.js, it is not used', async (t) => {
  const whole = new Copy(t).cache;
  const compiled = whole.subarray(CHECKSUM_BYTES);
  const changedAt = (bytes: Buffer, at: number): Buffer => {
    const changed = Buffer.from(bytes);
    changed.fill(~bytes[at]!, at, at + 64);
    return changed;
  };
  const cases: Readonly<Record<string, (copy: Copy) => void>> = {
    missing: (copy) => rmSync(copy.path('program.cjs.cache')),
    'a directory': (copy) => {
      rmSync(copy.path('program.cjs.cache'));
      mkdirSync(copy.path('program.cjs.cache'));
    },
    empty: (copy) => copy.writeCache(Buffer.alloc(0)),
    'cut off in the checksum': (copy) => copy.writeCache(whole.subarray(0, CHECKSUM_BYTES - 1)),
    'cut off in the middle': (copy) => copy.writeCache(whole.subarray(0, whole.length / 2)),
    'written in part': (copy) => copy.writeCache(Buffer.from(whole).fill(0, whole.length / 2)),
    garbage: (copy) => copy.writeCache(Buffer.alloc(whole.length, 0xa5)),
    // V8 itself would not notice, and ends the process.
    'a few bytes are other ones': (copy) => copy.writeCache(changedAt(whole, Math.floor(whole.length / 4))),
    'of a program of the same length': (copy) =>
      writeFileSync(
        copy.path('program.cjs'),
        Buffer.from(copy.program.toString('latin1').replace('weft', 'WEFT'), 'latin1'),
      ),
    // V8's version is in its fifth to eighth byte.
    'of another V8': (copy) =>
      copy.writeCompiled(Buffer.concat([compiled.subarray(0, 4), Buffer.alloc(4), compiled.subarray(8)])),
    'not V8’s at all': (copy) => copy.writeCompiled(Buffer.from('nothing that V8 would know')),
  };
  for (const [what, damage] of Object.entries(cases)) {
    await t.test(what, async (t) => {
      const copy = new Copy(t);
      damage(copy);
      t.equal(await copy.isCompiled(t), false);
    });
  }
});

t.test('read as Latin-1, every text is what it was in the source', async (t) => {
  const program = new Copy(t).program.toString('latin1');
  t.notMatch(program, /[^\0-\x7f]/);
  t.match(program, String.raw` is an endpoint\u2019s`, 'in the template of a tag, too');
});

t.test('a start writes nothing beside the program', async (t) => {
  const copy = new Copy(t);
  rmSync(copy.path('program.cjs.cache'));
  const directory = dirname(copy.path('weft.js'));
  chmodSync(directory, 0o555);
  const look = (): object => [readdirSync(directory), statSync(directory).mtimeMs];
  const before = look();
  t.equal(await copy.isCompiled(t), false);
  t.same(look(), before);
  chmodSync(directory, 0o755);
});

function inDist(name: string): string {
  return `dist/cli/${name}`;
}
