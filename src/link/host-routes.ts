/** The host's own routes, in the network namespace that this process is in. */
import { readFileSync } from 'node:fs';
import { endianness } from 'node:os';
import { formatIp } from '../flow/types.ts';

export interface HostRoute {
  /** ADDRESS/PREFIX. */
  readonly to: string;
  readonly ifname: string;
}

/** A host with more than this is an internet router; not all of its routes are read. */
const MOST_BYTES = 1 << 20;
const RTF_REJECT = 0x200;
const RTF_LOCAL = 0x8000_0000;

/** All routes except default routes and those to loopback, link-local and multicast addresses. */
export function hostRoutes(): HostRoute[] {
  return [...readTable('route', ip4Route), ...readTable('ipv6_route', ip6Route)];
}

function readTable(name: string, parse: (columns: readonly string[]) => HostRoute | undefined): HostRoute[] {
  let text: string;
  try {
    text = readFileSync(`/proc/net/${name}`, 'latin1');
  } catch (error) {
    // Without IPv6 this table does not exist.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const lines = text.slice(0, MOST_BYTES).split('\n');
  return lines.flatMap((line) => parse(line.trim().split(/\s+/)) ?? []);
}

/** Interface, destination, gateway, flags, three counters, mask. */
function ip4Route(columns: readonly string[]): HostRoute | undefined {
  const [ifname = '', destination = '', , flags = '', , , , mask = ''] = columns;
  if (!/^[\dA-F]{8}$/.test(destination) || ifname === 'lo') return undefined;
  const length = [...ip4Bytes(mask)].reduce((bits, byte) => bits + onesIn(byte), 0);
  if (length === 0 || (Number.parseInt(flags, 16) & RTF_REJECT) !== 0) return undefined;
  return { to: `${[...ip4Bytes(destination)].join('.')}/${length}`, ifname };
}

/** The kernel prints the four bytes as one number in this machine's byte order. */
function ip4Bytes(hex: string): Uint8Array {
  const bytes = Buffer.from(hex, 'hex');
  return endianness() === 'LE' ? bytes.reverse() : bytes;
}

function onesIn(byte: number): number {
  return byte.toString(2).replaceAll('0', '').length;
}

/** Destination, its prefix length, source and its length, next hop, three counters, flags, interface. */
function ip6Route(columns: readonly string[]): HostRoute | undefined {
  const [destination = '', prefix = '', , , , , , , flags = '', ifname = ''] = columns;
  const length = Number.parseInt(prefix, 16);
  const isOther = (Number.parseInt(flags, 16) & (RTF_REJECT | RTF_LOCAL)) !== 0;
  if (columns.length < 10 || length === 0 || isOther || ifname === 'lo' || /^f[ef]/.test(destination)) return undefined;
  return { to: `${formatIp(Buffer.from(destination, 'hex'))}/${length}`, ifname };
}
