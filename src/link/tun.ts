/** The kernel's TUN/TAP driver, which every port needs. */
import { closeSync, openSync } from 'node:fs';
import { WeftError } from '../error.ts';

const DEVICE = '/dev/net/tun';

/** @throws WeftError('system') if it is missing or not permitted */
export function requireTun(): void {
  try {
    closeSync(openSync(DEVICE, 'r+'));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') {
      throw new WeftError(
        'system',
        `${DEVICE} may not be opened: run weft as root, and let the container use the device`,
      );
    }
    throw new WeftError(
      'system',
      `${DEVICE} is missing or has no driver (${code}): run \`modprobe tun\`, or \`mknod ${DEVICE} c 10 200\` in a container`,
    );
  }
}
