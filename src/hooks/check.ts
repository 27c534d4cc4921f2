/**
 * Checks the file of a hook, without a daemon: that it can be loaded, and its types.
 *
 * Types are checked by the TypeScript that is installed beside the file, or beside weft, for a program that has the language and
 * what `weft` exports for hooks. What a hook does not get when it runs, such as `process`, is unknown there, too.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { WeftError } from '../error.ts';
import { name as nameOfHook } from '../model/value.ts';
import { packageRoot } from '../package.ts';
import { HookProcess } from './process.ts';

export interface HookCheckReport {
  readonly name: string;
  readonly file: string;
  /** What is wrong with its types, with places: a text for each error. */
  readonly wrong: readonly string[];
}

/** @throws WeftError that says why it cannot be loaded, with the place */
export async function checkHook(path: string): Promise<HookCheckReport> {
  let source: string;
  try {
    source = readFileSync(path, 'utf8');
  } catch (error) {
    throw new WeftError('invalid', `${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
  const file = basename(path);
  const { process, name } = await HookProcess.start({ source, file, host: 'localhost' });
  process.close();
  const issue = nameOfHook.safeParse(name).error?.issues[0];
  if (issue) throw new WeftError('invalid', `${file}: name: ${issue.message}`);
  return { name, file, wrong: await typeErrors(resolve(path)) };
}

/** A text for each, `fence.ts(3,5): error TS2339: …`, of more than one line if the compiler explains it. */
async function typeErrors(path: string): Promise<readonly string[]> {
  const compiler = compilerFor(path);
  const types = ['dist/hooks/api.d.ts', 'src/hooks/api.ts'].map((file) => join(packageRoot, file)).find(existsSync);
  const directory = mkdtempSync(join(tmpdir(), 'weft-hook-'));
  try {
    const project = join(directory, 'tsconfig.json');
    const compilerOptions = {
      ...{ target: 'ES2023', lib: ['ES2023'], module: 'ESNext', moduleResolution: 'Bundler' },
      ...{
        strict: true,
        noUncheckedIndexedAccess: true,
        noEmit: true,
        skipLibCheck: true,
        types: [],
        paths: { weft: [types] },
      },
      // Of weft itself, if there is no build of it.
      allowImportingTsExtensions: true,
    };
    writeFileSync(project, JSON.stringify({ compilerOptions, files: [path] }));
    const output = await run([compiler, '-p', project, '--pretty', 'false'], dirname(path));
    // What explains an error is indented.
    return output.split(/\n(?=\S)/).flatMap((error) => error.trimEnd() || []);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** @throws WeftError that says how to install one */
function compilerFor(path: string): string {
  for (const from of [path, join(packageRoot, 'package.json')]) {
    try {
      return join(dirname(createRequire(from).resolve('typescript/package.json')), 'bin/tsc');
    } catch {
      // It is not installed there.
    }
  }
  const why = 'the types of a hook are checked by TypeScript, which is not installed';
  throw new WeftError('system', `${why}: run \`npm install typescript\` beside ${path}`);
}

/** What the compiler prints. It exits with another code than 0 if there is something wrong. */
function run(command: readonly string[], cwd: string): Promise<string> {
  return new Promise((done, failed) => {
    execFile(process.execPath, command, { cwd }, (error, stdout, stderr) => {
      if (error && stdout.trim() === '')
        failed(new WeftError('system', `TypeScript fails: ${stderr.trim() || error.message}`));
      else done(error ? stdout : '');
    });
  });
}
