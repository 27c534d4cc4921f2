/**
 * The native core as a static library, for programs that run without Node: all sources of
 * binding.gyp except the files with N-API. A program links what it needs.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { targets } = JSON.parse(readFileSync(join(root, 'binding.gyp'), 'utf8'));
const sources = targets[0].sources.filter((path) => !path.startsWith('native/addon'));

/**
 * @param compiler its name
 * @param flags for each source
 * @param directory where the objects and the library go; it must exist
 * @returns the path of the library
 * @throws Error if a source does not compile; the compiler has said why on stderr
 */
export async function buildCore(compiler, flags, directory) {
  const object = (source) => join(directory, `${source.replaceAll('/', '-')}.o`);
  await inParallel(sources, (source) => command(compiler, [...flags, '-c', source, '-o', object(source)]));
  const library = join(directory, 'core.a');
  await command('ar', ['rcs', library, ...sources.map(object)]);
  return library;
}

/**
 * Runs `run` for each item, as many at a time as there are processors. If one throws, no other
 * begins, and its error is thrown when those that are running have ended.
 */
export async function inParallel(items, run) {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
      try {
        await run(item);
      } catch (error) {
        queue.length = 0;
        throw error;
      }
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: availableParallelism() }, worker));
  for (const { status, reason } of ended) if (status === 'rejected') throw reason;
}

/** Runs a command from the root of the checkout. @throws Error if it does not exit with 0 */
export async function command(file, args) {
  const child = spawn(file, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  const ended = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(signal ?? code));
  });
  if (ended !== 0) throw new Error(`${file} ${args.join(' ')}: ${typeof ended === 'number' ? 'exit ' : ''}${ended}`);
}
