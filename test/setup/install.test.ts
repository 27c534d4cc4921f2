/**
 * The package as users get it: packed, and installed into a fresh folder by npm, which compiles
 * the addon there. It is compiled without optimisation, since speed does not matter here.
 */
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { StatusReport } from '../../src/model/report.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { attempt, run, until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';

// There are two compilations, on processors that others use, too.
t.setTimeout(600_000);

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const toCompileMs = { timeoutMs: 300_000 };
const npm = ['env', 'CXXFLAGS=-O0', 'npm', '--no-audit', '--no-fund', '--prefer-offline', '--no-update-notifier'];

class Folder {
  readonly path: string;
  readonly #packed: string;

  constructor(path: string) {
    this.path = path;
    this.#packed = join(path, 'packed');
    mkdirSync(this.#packed, { recursive: true });
    writeFileSync(join(this.path, 'package.json'), '{ "private": true }');
  }

  async install(...flags: readonly string[]): Promise<void> {
    await run([...npm, '--prefix', checkout, 'pack', checkout, '--pack-destination', this.#packed], toCompileMs);
    const [archive = ''] = readdirSync(this.#packed);
    const into = ['--prefix', this.path, 'install', ...flags, join(this.#packed, archive)];
    await run([...npm, ...into], toCompileMs);
  }

  /** When a file of the command line was written; those of the package have a time long past. */
  changedMs(name: string): number {
    return statSync(join(this.path, 'node_modules/weft/dist/cli', name)).mtimeMs;
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

t.test('the installed package runs a switch', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const folder = new Folder(join(lab.directory, 'fresh'));
  await folder.install();
  t.match(await run(folder.weft(['--version'])), /^\d+\.\d+\.\d+\n$/);
  t.ok(
    folder.changedMs('program.cjs.cache') > folder.changedMs('program.cjs'),
    'the program is compiled for this Node.js',
  );
  await runSwitch(t, lab, folder);
});

t.test('without install scripts it names the command that compiles the addon', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const folder = new Folder(join(lab.directory, 'fresh'));
  await folder.install('--ignore-scripts', '--omit=optional');
  const { code, stderr } = await attempt(folder.weft(['up', '--state', join(folder.path, 'state')]));
  t.equal(code, 1);
  const [, remedy = ''] =
    /^weft: the native addon .*weft\.node is missing: .*; compile it with `(.*)`\n$/.exec(stderr) ?? [];
  t.match(remedy, /^npm .* run install$/, stderr);
  await run(['env', 'CXXFLAGS=-O0', 'sh', '-c', remedy], toCompileMs);
  await runSwitch(t, lab, folder);
});
