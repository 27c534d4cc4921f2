/**
 * A step of the set-up makes one result: `{ title, stamp, hash, run }`. The stamp is a file
 * inside the result that holds the hash of the step's inputs. So removing the result also
 * removes the stamp, and a step whose stamp does not hold the current hash is stale. All output
 * goes to stderr.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The root of the checkout, or of the installed package. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** A problem that the operator has to solve: one line, no stack. */
export class Failure extends Error {}

/** Prints a failure of `main` in one line, and makes the process exit with 1. */
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
  // Inputs that change during the build make the result stale again.
  const before = hash();
  rmSync(join(root, stamp), { force: true });
  run();
  writeFileSync(join(root, stamp), before);
  say(`${title}: done in ${(Number(process.hrtime.bigint() - startedAt) / 1e9).toFixed(1)} s`);
}

/** Covers the words, and the paths and contents of the files, in the given order. */
export function hashOf(paths, words = []) {
  const hash = createHash('sha256');
  for (const word of words) hash.update(`${word}\0`);
  for (const path of paths) {
    const content = readFileSync(join(root, path));
    hash.update(`${path}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

/** Sorted paths, relative to the root, of the files whose path matches. */
export function filesUnder(directory, pattern) {
  const paths = readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' });
  return paths
    .map((path) => `${directory}/${path}`)
    .filter((path) => pattern.test(path))
    .sort();
}

/** @param folder where it runs @throws Failure if it does not exit with 0 */
export function command(file, args, env = {}, folder = root) {
  const { status, signal, error } = spawnSync(file, args, {
    cwd: folder,
    stdio: ['ignore', process.stderr.fd, process.stderr.fd],
    env: { ...process.env, ...env },
  });
  if (error) throw new Failure(`${file}: ${error.message}`);
  if (status !== 0) throw new Failure(`${[file, ...args].join(' ')}: ${signal ?? `exit ${status}`}`);
}

/** Is there a program of that name, also in root's directories? */
export function hasCommand(name) {
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return directories.some((path) => existsSync(join(path, name)));
}

export function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}
