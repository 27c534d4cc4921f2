/** Kernel settings under /proc/sys/net, in the network namespace that this process is in. */
import { readFileSync, writeFileSync } from 'node:fs';
import { WeftError } from '../error.ts';

const ROOT = '/proc/sys/net';

/** @param name a path such as `ipv4/ip_forward` @returns undefined if the kernel has no such setting */
export function readSetting(name: string): string | undefined {
  try {
    return readFileSync(`${ROOT}/${name}`, 'utf8').trim();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new WeftError('system', `${ROOT}/${name} cannot be read (${code})`);
  }
}

/**
 * Writes the setting if it differs, and returns true if it did. A setting that the kernel does not have is skipped.
 * @throws WeftError('system') if the kernel refuses: in a container /proc/sys is often read-only
 */
export function writeSetting(name: string, value: string): boolean {
  const before = readSetting(name);
  if (before === undefined || before === value) return false;
  try {
    writeFileSync(`${ROOT}/${name}`, value);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new WeftError(
      'system',
      `${ROOT}/${name} is ${before} and cannot be set to ${value} (${code}): run weft as root, or set it yourself`,
    );
  }
  return true;
}
