/**
 * One process at a time on a directory, by flock(2) on the directory itself:
 * the kernel decides between two starters, and lets go when the holder dies,
 * however it dies. Node.js has no such call, but a lock belongs to the open
 * file and not to a process: flock(1) is started with ours and takes the lock
 * for us.
 *
 * The file `pid` only says who holds it.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { WeftError } from '../error.ts';

/** A holder that was just started or killed is seen as it is after some milliseconds; a try takes about three. */
const TRIES = 20;

/**
 * Returns how to let go.
 * @throws WeftError `conflict` when another process holds it; `system` when it cannot be locked. Node's error when it
 * cannot be opened or written.
 */
export function lockDirectory(directory: string): () => void {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const pidFile = join(directory, 'pid');
    for (let tries = 1; !flock(fd, directory); tries++) {
      const holder = holderIn(pidFile);
      if (holder !== undefined || tries === TRIES) {
        const who = holder === undefined ? 'another weft' : `weft with pid ${holder}`;
        throw new WeftError(
          'conflict',
          `state directory ${directory} is in use by ${who}: choose another with --state`,
        );
      }
    }
    writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 });
    return () => {
      rmSync(pidFile, { force: true });
      closeSync(fd);
    };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** False when another open file holds it. */
function flock(fd: number, directory: string): boolean {
  const { status, stderr, error } = spawnSync('flock', ['-n', '3'], {
    stdio: ['ignore', 'ignore', 'pipe', fd],
    encoding: 'utf8',
  });
  if (status === 0) return true;
  if (status === 1 && stderr === '') return false;
  const why = error ? `flock of util-linux cannot be run: ${error.message}` : stderr.trim();
  throw new WeftError('system', `state directory ${directory} cannot be locked: ${why}`, { cause: error });
}

/** The process that says it holds the lock; undefined when there is no such process. */
function holderIn(pidFile: string): number | undefined {
  try {
    const pid = Number(readFileSync(pidFile, 'utf8'));
    if (!Number.isInteger(pid) || pid < 1) return undefined;
    process.kill(pid, 0);
    return pid;
  } catch {
    return undefined;
  }
}
