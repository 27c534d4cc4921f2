/** Where connections are stored: a file mapped into memory, so that they survive a crash of the daemon. */
import { closeSync, lstatSync, openSync, readSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { WeftError } from '../error.ts';
import { connectionBytes, connectionFileHeader } from '../flow/connection.ts';
import { sameBytes } from '../flow/types.ts';
import { loadAddon } from './addon.ts';
import { errnoName } from './io-error.ts';

export interface ConnectionMemoryOptions {
  /** The file. If undefined, connections end with the process. */
  readonly path: string | undefined;
  /** How many records need room. */
  readonly count: number;
  /** Called when a file with records of another layout was set aside under this name. */
  readonly onSetAside: (path: string) => void;
}

/**
 * Maps the file and keeps what it already holds. A file of another layout is renamed and never read as
 * one of this layout; a file that was set aside before is removed.
 * @returns memory for `ConnectionRecords`
 * @throws WeftError `system` if the file cannot be created or mapped
 */
export function connectionMemory({ path, count, onSetAside }: ConnectionMemoryOptions): Uint8Array {
  const bytes = connectionBytes(count);
  if (path === undefined) return new Uint8Array(bytes);
  try {
    if (isOfAnotherLayout(path)) {
      renameSync(path, asidePath(path));
      onSetAside(asidePath(path));
    }
    // Written before the file gets its length, because a file whose header is zero is one of another layout.
    writeFileSync(path, connectionFileHeader(), { mode: 0o600, flag: 'wx' });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    // Mapping reports what is wrong with an existing file.
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

/** The name under which a file of another layout is set aside. */
function asidePath(path: string): string {
  return `${path}.old`;
}

/**
 * Allocates the pages of a part of the memory, so that writing to it cannot fail. Returns false if there is no room.
 */
export function populate(memory: Uint8Array, from: number, bytes: number): boolean {
  const errno = loadAddon().populate(memory, from, bytes);
  return errno === 0 || errnoName(errno) === 'EINVAL';
}

/** True for a file that belongs only to this user; `mapFile` checks whether it may be used. */
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
