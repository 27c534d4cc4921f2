/** Turns the kernel's error for opening a port into a sentence that names what failed and how to solve it. */
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { descriptorsText, WeftError } from '../error.ts';
import { formatIp } from '../flow/types.ts';
import type { TapSpec } from './tap.ts';

/** "File descriptor in bad state", which Node does not know. */
const EBADFD = 77;

/** What should be opened; ports of the datapath of these kinds count. */
export type IoTarget =
  | ({ readonly kind: 'tap' } & TapSpec)
  | { readonly kind: 'vxlan'; readonly local: Uint8Array; readonly l4Port: number };

/** @param errno positive, as `tap_open` and `Underlay::open` (native/io) document them */
export function ioError(errno: number, target: IoTarget): WeftError {
  switch (target.kind) {
    case 'tap':
      return tapError(errno, target.netns, target.ifname);
    case 'vxlan':
      return underlayError(errno, formatIp(target.local), target.l4Port);
    default:
      return target satisfies never;
  }
}

/** Why a port stopped by itself; `errno` is what `tap_receive` and `Underlay::receive` return. */
export function lostText(errno: number): string {
  return errno === EBADFD ? 'its interface was deleted' : `reading from it failed (${errnoName(errno)})`;
}

/** `EIO` and the like; the number if Node has no name for it. */
export function errnoName(errno: number): string {
  const name = getSystemErrorName(-errno);
  return name.startsWith('Unknown') ? `errno ${errno}` : name;
}

function tapError(errno: number, netns: string, ifname: string): WeftError {
  const { ENOENT, ENOTDIR, ENOTTY, ENODEV, ENXIO, ESTALE, EPERM, EACCES, EEXIST, EBUSY, EINVAL } = constants.errno;
  const what = `interface "${ifname}" in ${netns}`;
  switch (errno) {
    case ENOENT:
    case ENOTDIR:
      return new WeftError(
        'not_found',
        `network namespace ${netns} does not exist; \`ip netns ls\` shows those that do`,
      );
    case ENXIO:
      return new WeftError('not_found', `${what} does not exist any more: it was deleted`);
    case ESTALE:
      return new WeftError('not_found', `${netns} leads to another network namespace now`);
    case ENOTTY:
      return new WeftError('invalid', `${netns} is not a network namespace`);
    case ENODEV:
      return new WeftError(
        'system',
        '/dev/net/tun is missing or has no driver: run `modprobe tun`, or `mknod /dev/net/tun c 10 200` in a container',
      );
    case EPERM:
    case EACCES:
      return new WeftError(
        'system',
        `${what} cannot be made without CAP_SYS_ADMIN and CAP_NET_ADMIN; run weft as root`,
      );
    case EEXIST:
      return new WeftError('conflict', `${what} exists already and is not weft's; choose another interface name`);
    case EBUSY:
      return new WeftError(
        'conflict',
        `${what} is in use by another program: stop it, or choose another interface name`,
      );
    case EINVAL:
      return new WeftError(
        'invalid',
        `"${ifname}" is not an interface name: 1 to 15 characters without spaces, "/", ":" and "%"`,
      );
    default:
      return openError(what, errno);
  }
}

function underlayError(errno: number, local: string, l4Port: number): WeftError {
  const { EADDRINUSE, EADDRNOTAVAIL, EINVAL, EACCES, EPERM, EAFNOSUPPORT } = constants.errno;
  switch (errno) {
    case EADDRINUSE:
      return new WeftError(
        'conflict',
        `UDP port ${l4Port} on ${local} is in use by another program (a kernel vxlan device, or another switch): stop it, or choose another with vxlanPort in the configuration, the same on every host`,
      );
    case EADDRNOTAVAIL:
    case EINVAL: // a link-local IPv6 address without an interface
      return new WeftError('system', `underlay address ${local} is not on this host; \`ip addr\` shows those that are`);
    case EAFNOSUPPORT:
      return new WeftError('system', `underlay address ${local}: this kernel has no IPv6`);
    case EACCES:
    case EPERM:
      return new WeftError('system', `UDP port ${l4Port} on ${local} may not be opened; run weft as root`);
    default:
      return openError(`UDP port ${l4Port} on ${local}`, errno);
  }
}

function openError(what: string, errno: number): WeftError {
  const name = errnoName(errno);
  const text = descriptorsText(name);
  if (text === undefined) return new WeftError('system', `${what} could not be opened (${name})`);
  return new WeftError('exhausted', `${what} could not be opened: ${text}`);
}
