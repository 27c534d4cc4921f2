/**
 * The package as users get it: packed, and installed into an empty folder by npm, on a machine without a compiler. Where what
 * was compiled for the package does not run, it is compiled without optimisation, since speed does not matter here.
 */
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { StatusReport } from '../../src/model/report.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { attempt, run, until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';

// It packs, and compiles once, on processors that others use, too.
t.setTimeout(900_000);

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const toCompileMs = { timeoutMs: 600_000 };
const npm = ['npm', '--no-audit', '--no-fund', '--prefer-offline', '--no-update-notifier'];

/** Removed at the end. */
const packed = mkdtempSync(join(tmpdir(), `weft-packed-${process.pid}-`));
t.teardown(() => rmSync(packed, { recursive: true }));

/** @returns the path of the tarball, which is made once */
async function archive(): Promise<string> {
  const [made] = readdirSync(packed);
  if (made !== undefined) return join(packed, made);
  await run([...npm, '--prefix', checkout, 'pack', checkout, '--pack-destination', packed], toCompileMs);
  return archive();
}

/** A folder for PATH with node, npm, and what their scripts are started by: no compiler, no make, no python3. */
async function withoutCompilers(lab: Lab): Promise<string> {
  const folder = join(lab.directory, 'bin');
  mkdirSync(folder);
  const found = await run(['sh', '-c', 'for name in npm npx sh env; do command -v $name; done']);
  for (const path of [process.execPath, ...found.trim().split('\n')])
    symlinkSync(path, join(folder, path.split('/').at(-1)!));
  return folder;
}

class Folder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    mkdirSync(this.path, { recursive: true });
    writeFileSync(join(this.path, 'package.json'), '{ "private": true, "type": "module" }');
  }

  /** @param path what the installation has as PATH */
  async install(path: string, ...flags: readonly string[]): Promise<void> {
    const into = ['--prefix', this.path, 'install', ...flags, await archive()];
    await run(['env', `PATH=${path}`, ...npm, ...into], toCompileMs);
  }

  /** When a file of the command line was written; those of the package have a time long past. */
  changedMs(name: string): number {
    return statSync(join(this.package, 'dist/cli', name)).mtimeMs;
  }

  get package(): string {
    return join(this.path, 'node_modules/weft');
  }

  weft(words: readonly string[]): string[] {
    return [join(this.path, 'node_modules/.bin/weft'), ...words];
  }
}

/** Starts a switch, asks for its status, and stops it. */
async function runSwitch(t: Test, lab: Lab, folder: Folder): Promise<void> {
  const host = await lab.namespace('host');
  const socket = ['--socket', join(lab.directory, 'weft.sock')];
  const daemon = host.start(folder.weft([...socket, 'up', '--state', join(lab.directory, 'state')]));
  const status = await until(
    async () => {
      const { code, stdout } = await attempt(folder.weft([...socket, 'status', '-o', 'json']));
      if (code !== 0 && daemon.isRunning) return false;
      return code === 0 ? (JSON.parse(stdout) as StatusReport) : { stderr: daemon.stderr };
    },
    { what: 'status of the installed weft' },
  );
  t.match(status, { forwarding: true, datapath: { kind: 'native' } });
  t.equal(await daemon.stop(), 0);
}

t.test('the tarball has what it needs, and no tests', { skip: needsRoot }, async (t) => {
  const files = (await run(['tar', 'tzf', await archive()])).trim().split('\n');
  const of = (pattern: RegExp): string[] => files.filter((path) => pattern.test(path));
  t.same(of(/(?:^|\/)(?:test|bench|fuzz)\/|\.test\.|\.weft-setup/), []);
  const needed = [
    'LICENSE',
    'README.md',
    'binding.gyp',
    'dist/index.js',
    'dist/index.js.map',
    'dist/index.d.ts',
    'native/addon.cc',
  ];
  const folder = `prebuilds/linux-${process.arch}`;
  for (const name of [...needed, `${folder}/weft-holder`, `${folder}/weft-cni`])
    t.ok(files.includes(`package/${name}`), name);
  t.equal(of(new RegExp(`^package/${folder}/weft\\.\\w+\\.node$`)).length, 1);
});

t.test('without a compiler, it runs a switch, and programs', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const folder = new Folder(join(lab.directory, 'fresh'));
  const path = await withoutCompilers(lab);
  await folder.install(path);
  const version = ['env', '-C', folder.path, `PATH=${path}`, 'npx', 'weft', '--version'];
  t.match(await run(version), /^\d+\.\d+\.\d+\n$/);
  t.notOk(readdirSync(folder.package).includes('build'), 'nothing is compiled');
  t.ok(
    folder.changedMs('program.cjs.cache') > folder.changedMs('program.cjs'),
    'the program is compiled for this Node.js',
  );
  await runSwitch(t, lab, folder);

  const host = await lab.namespace('library');
  const [web, shop] = [await lab.namespace('web'), await lab.namespace('shop')];
  const example = join(folder.package, 'examples/library/shop.mjs');
  t.match(await host.run([process.execPath, example, web.name, shop.name]), /lets nobody in: drop\n/);

  writeFileSync(
    join(folder.path, 'program.ts'),
    `import { createSwitch, WeftError } from 'weft';
await using sw = await createSwitch({ host: 'a' });
await using network = await sw.createNetwork('blue', { subnets: ['10.0.0.0/24'] });
const port = await network.attach({ netns: 'web', ip: await network.allocateIp() });
const texts: string[] = [port.ip, port.mac, ...(await sw.services.list()).map(({ name }) => name)];
// @ts-expect-error: no such field
await sw.policies.apply('fence', { selector: {} });
export { texts, WeftError };
`,
  );
  const options = [
    '--ignoreConfig',
    '--noEmit',
    '--strict',
    '--target',
    'es2022',
    '--module',
    'nodenext',
    '--lib',
    'es2023,esnext.disposable',
  ];
  const types = ['--types', 'node', '--typeRoots', join(checkout, 'node_modules/@types')];
  const tsc = join(checkout, 'node_modules/typescript/bin/tsc');
  const checked = await attempt([process.execPath, tsc, ...options, ...types, join(folder.path, 'program.ts')]);
  t.match(checked, { code: 0, stdout: '' }, 'programs get its types');
});

t.test(
  'where none was compiled for it, it names the command that does, which needs no headers',
  { skip: needsRoot },
  async (t) => {
    const lab = openLab(t);
    const folder = new Folder(join(lab.directory, 'fresh'));
    await folder.install(process.env.PATH!, '--ignore-scripts', '--omit=optional');
    t.match(await run(folder.weft(['--version'])), /^\d/);
    rmSync(join(folder.package, 'prebuilds'), { recursive: true });
    const { code, stderr } = await attempt(folder.weft(['up', '--state', join(folder.path, 'state')]));
    t.equal(code, 1);
    const [, remedy = ''] =
      /^weft: the native addon .*weft\.node is missing: .*; compile it with `(.*)`\n$/.exec(stderr) ?? [];
    t.match(remedy, /^npm .* run install$/, stderr);
    // A Node.js that has come without headers.
    const node = join(lab.directory, 'bare/bin/node');
    mkdirSync(dirname(node), { recursive: true });
    copyFileSync(process.execPath, node);
    chmodSync(node, 0o755);
    const path = `PATH=${dirname(node)}:${process.env.PATH}`;
    await run(['env', path, 'CXXFLAGS=-O0', 'sh', '-c', remedy], toCompileMs);
    await runSwitch(t, lab, folder);
  },
);
