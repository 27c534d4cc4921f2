/**
 * A step of the set-up makes one result: `{ title, stamp, hash, run }`. The
 * stamp is a file within the result that holds the hash of what the result was
 * made from. So whoever removes the result removes the stamp, and a step whose
 * stamp does not hold the present hash is stale. All output goes to stderr.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Of the checkout, or of the installed package. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** What the operator has to mend: one line, no stack. */
export class Failure extends Error {}

/** Prints the failures of `main` in one line, and has the process exit with 1 then. */
export async function runMain(main) {
  try {
    await main();
  } catch (error) {
    say(error instanceof Failure ? error.message : error.stack);
    process.exitCode = 1;
  }
}

export function isStale({ stamp, hash }) {
  const path = join(root, stamp);
  return !existsSync(path) || readFileSync(path, 'utf8') !== hash();
}

export function runStep({ title, stamp, hash, run }) {
  say(`${title} …`);
  const startedAt = process.hrtime.bigint();
  // What changes while it is being built is built again the next time.
  const before = hash();
  rmSync(join(root, stamp), { force: true });
  run();
  writeFileSync(join(root, stamp), before);
  say(`${title}: done in ${(Number(process.hrtime.bigint() - startedAt) / 1e9).toFixed(1)} s`);
}

/** Over the words, and paths and contents of the files, in the given order. */
export function hashOf(paths, words = []) {
  const hash = createHash('sha256');
  for (const word of words) hash.update(`${word}\0`);
  for (const path of paths) {
    const content = readFileSync(join(root, path));
    hash.update(`${path}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

/** Sorted paths from the root, of the files whose path matches. */
export function filesUnder(directory, pattern) {
  const paths = readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' });
  return paths
    .map((path) => `${directory}/${path}`)
    .filter((path) => pattern.test(path))
    .sort();
}

/** @throws Failure where it does not exit with 0 */
export function command(file, args, env = {}) {
  const { status, signal, error } = spawnSync(file, args, {
    cwd: root,
    stdio: ['ignore', process.stderr.fd, process.stderr.fd],
    env: { ...process.env, ...env },
  });
  if (error) throw new Failure(`${file}: ${error.message}`);
  if (status !== 0) throw new Failure(`${[file, ...args].join(' ')}: ${signal ?? `exit ${status}`}`);
}

/** Is there a program of that name, also among root's own? */
export function hasCommand(name) {
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return directories.some((path) => existsSync(join(path, name)));
}

export function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}
