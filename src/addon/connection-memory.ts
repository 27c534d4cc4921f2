/** Where connections are kept: a file as memory, so that a crash of the daemon does not end them. */
import { closeSync, lstatSync, openSync, readSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { WeftError } from '../error.ts';
import { connectionBytes, connectionFileHeader } from '../flow/connection.ts';
import { sameBytes } from '../flow/types.ts';
import { loadAddon } from './addon.ts';
import { errnoName } from './io-error.ts';

export interface ConnectionMemoryOptions {
  /** The file; undefined: connections end with the process. */
  readonly path: string | undefined;
  /** Records that there is to be room for. */
  readonly count: number;
  /** A file with records of another layout was set aside, under this name. */
  readonly onSetAside: (path: string) => void;
}

/**
 * What is in the file from before is still there. A file of another layout is renamed, and never read
 * as this one; the one that was set aside before it goes.
 * @returns memory of `ConnectionRecords`
 * @throws WeftError `system` when the file cannot be made or mapped
 */
export function connectionMemory({ path, count, onSetAside }: ConnectionMemoryOptions): Uint8Array {
  const bytes = connectionBytes(count);
  if (path === undefined) return new Uint8Array(bytes);
  try {
    if (isOfAnotherLayout(path)) {
      renameSync(path, asidePath(path));
      onSetAside(asidePath(path));
    }
    // Before it gets its length: a file with a header of zeros is one of another layout.
    writeFileSync(path, connectionFileHeader(), { mode: 0o600, flag: 'wx' });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    // What is wrong with a file that is there, mapping it says.
    if (code !== 'EEXIST') throw new WeftError('system', `connections cannot be kept in ${path} (${code})`);
  }
  const memory = loadAddon().mapFile(path, bytes);
  if (typeof memory === 'number') {
    throw new WeftError('system', `connections cannot be kept in ${path} (${errnoName(-memory)})`);
  }
  return memory;
}

/** Removes the file, and the one that was set aside. */
export function removeConnections(path: string): void {
  for (const one of [path, asidePath(path)]) rmSync(one, { force: true });
}

/** Where a file of another layout is put. */
function asidePath(path: string): string {
  return `${path}.old`;
}

/** Gives a part of the memory its pages, so that writing to it cannot fail; false when there is no room for them. */
export function populate(memory: Uint8Array, from: number, bytes: number): boolean {
  const errno = loadAddon().populate(memory, from, bytes);
  return errno === 0 || errnoName(errno) === 'EINVAL';
}

/** Of a file that is only this user's; whether it may be used is for `mapFile` to say. */
function isOfAnotherLayout(path: string): boolean {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (!status?.isFile() || status.nlink !== 1 || (status.mode & 0o022) !== 0) return false;
  if (status.uid !== process.geteuid!()) return false;
  const expected = connectionFileHeader();
  const found = new Uint8Array(expected.length);
  const file = openSync(path, 'r');
  try {
    return readSync(file, found) < expected.length || !sameBytes(found, expected);
  } finally {
    closeSync(file);
  }
}
