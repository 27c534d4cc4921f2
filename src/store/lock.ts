/**
 * One process at a time on a directory, by flock(2) on the directory itself: the kernel decides between
 * two starters, and releases the lock when the holder dies, however it dies.
 *
 * The file `pid` only says who holds it.
 */
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { loadAddon } from '../addon/addon.ts';
import { errnoName } from '../addon/io-error.ts';
import { WeftError } from '../error.ts';

/** From linux/sched.h. */
const PF_EXITING = 4;
/** The pause between two tries for a lock that is held. */
const PAUSE_MS = 20;
/** So many tries: a holder that was just started, or just killed, is recognized after some milliseconds. */
const LOOKS = 5;
/** How long a dying holder may take: the kernel removes hundreds of its interfaces. */
const DYING_MS = 30_000;

/** Where a lock comes from that this process has already, and who is told of it. Numbers are descriptors. */
export interface LockDescriptors {
  /** Of a directory, locked; it belongs to the caller from then on. Undefined if there is none. */
  take(name: string): number | undefined;
  opened(name: string, descriptors: readonly number[]): void;
  closing(name: string): void;
}

/** The name of a lock among descriptors. */
export const LOCK_DESCRIPTOR = 'state';

/**
 * Returns how to release the lock. With a spare one of the same directory, this process goes on holding that.
 * @throws WeftError `conflict` if another process holds it; `system` if it cannot be locked. Node's error if it cannot
 * be opened or written.
 */
export function lockDirectory(directory: string, descriptors?: LockDescriptors): () => void {
  const fd = heldLock(directory, descriptors) ?? claimDirectory(directory);
  try {
    const pidFile = join(directory, 'pid');
    // The lock is among the first things that the kernel takes from a dying holder; sockets and interfaces follow.
    const before = holderIn(pidFile);
    for (let waitedMs = 0; before !== undefined && isDying(before) && waitedMs < DYING_MS; waitedMs += PAUSE_MS)
      pause();
    writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 });
    descriptors?.opened(LOCK_DESCRIPTOR, [fd]);
    return () => {
      descriptors?.closing(LOCK_DESCRIPTOR);
      rmSync(pidFile, { force: true });
      closeSync(fd);
    };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * @returns a descriptor that holds the lock of the directory, for `lockDirectory`. It belongs to the caller.
 * @throws as `lockDirectory`
 */
export function claimDirectory(directory: string): number {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const pidFile = join(directory, 'pid');
    let living = 0;
    for (let waitedMs = 0; !flock(fd, directory); waitedMs += PAUSE_MS) {
      const holder = holderIn(pidFile);
      if (holder !== undefined && !isDying(holder)) living++;
      if (living === LOOKS || waitedMs > DYING_MS || (holder === undefined && waitedMs > LOOKS * PAUSE_MS)) {
        const who = holder === undefined ? 'another weft' : `weft with pid ${holder}`;
        throw new WeftError(
          'conflict',
          `state directory ${directory} is in use by ${who}: choose another with --state`,
        );
      }
      pause();
    }
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** The process that claims to have the lock of this directory; undefined if there is none. */
export function lockHolder(directory: string): number | undefined {
  return holderIn(join(directory, 'pid'));
}

/** A descriptor of exactly this directory that holds the lock already. It belongs to the open file, not to a process. */
function heldLock(directory: string, descriptors: LockDescriptors | undefined): number | undefined {
  const held = descriptors?.take(LOCK_DESCRIPTOR);
  if (held === undefined) return undefined;
  const [ours, theirs] = [statSync(directory), fstatSync(held)];
  if (ours.dev === theirs.dev && ours.ino === theirs.ino) return held;
  closeSync(held);
  return undefined;
}

/** False if another open file holds it. */
function flock(fd: number, directory: string): boolean {
  const result = loadAddon().lock(fd);
  if (typeof result === 'boolean') return result;
  throw new WeftError('system', `state directory ${directory} cannot be locked (${errnoName(-result)})`);
}

/** The process that claims to hold the lock; undefined if there is no such process. */
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

/**
 * Was it killed, and is the kernel still releasing what it had? False if it is gone, or only waits for its parent.
 */
function isDying(pid: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const isKilled = [...status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm)].some(
      ([, pending = '0']) => ((BigInt(`0x${pending}`) >> 8n) & 1n) === 1n,
    );
    if (isKilled) return true;
    if (/^State:\s*[ZX]/m.test(status)) return readdirSync(`/proc/${pid}/task`).length > 1;
    // After the name, which may contain anything: state, five numbers, and the flags (proc_pid_stat(5)).
    const [, flags = '0'] = /^.*\) \S(?: -?\d+){5} (\d+) /s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
    return (Number(flags) & PF_EXITING) !== 0;
  } catch {
    return false;
  }
}

/** Nothing else is done before the directory is ours. */
function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
}
