/** The host's own addresses, and the interface of the underlay. */
import { createSocket } from 'node:dgram';
import { WeftError } from '../error.ts';
import { formatIp, parseIp } from '../flow/types.ts';
import { VXLAN_L4_PORT } from '../wire/vxlan.ts';
import { runCommand } from './command.ts';
import { firstLine, NO_IPROUTE } from './ip.ts';

export interface UnderlayInterface {
  readonly name: string;
  readonly mtu: number;
  readonly isLoopback: boolean;
}

interface AddressList {
  readonly ifname: string;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly addr_info: readonly { readonly local: string }[];
}

/** The interface that has `address`. @throws WeftError('not_found') if none has it */
export async function underlayInterface(address: string): Promise<UnderlayInterface> {
  // ip prints an empty object for each interface that does not match.
  const found = (await listAddresses(['to', address])).find((link) => link.ifname !== undefined);
  if (!found) {
    throw new WeftError(
      'not_found',
      `underlay ${address} is not an address of this host: \`ip address\` shows those that are`,
    );
  }
  return { name: found.ifname!, mtu: found.mtu!, isLoopback: found.flags!.includes('LOOPBACK') };
}

/** All addresses of this host's interfaces, in the form of `formatIp`. */
export async function ownAddresses(): Promise<ReadonlySet<string>> {
  const links = await listAddresses([]);
  return new Set(links.flatMap(({ addr_info = [] }) => addr_info.map(({ local }) => formatIp(parseIp(local)))));
}

async function listAddresses(words: readonly string[]): Promise<Partial<AddressList>[]> {
  const args = ['-j', 'address', 'show', ...words];
  const { exitCode, stdout, stderr } = await runCommand('ip', args, { missing: NO_IPROUTE });
  if (exitCode !== 0) throw new WeftError('system', `\`ip ${args.join(' ')}\` failed: ${firstLine(stderr)}`);
  return JSON.parse(stdout) as Partial<AddressList>[];
}

/** The address from which the kernel would send to a peer, or to the store. @throws WeftError('system') without a route */
export function underlayFor(other: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(other.includes(':') ? 'udp6' : 'udp4');
    const fail = (error: Error): void => {
      socket.close();
      reject(
        new WeftError(
          'system',
          `the underlay address is not known, since ${other} cannot be reached from here (${error.message}): add a route, or give --underlay`,
        ),
      );
    };
    socket.once('error', fail);
    // Node passes an error to the listener of a connect, which its types do not say.
    socket.connect(VXLAN_L4_PORT, other, (error?: Error) => {
      if (error) return fail(error);
      const { address } = socket.address();
      socket.close();
      resolve(address);
    });
  });
}

/**
 * Does this host have the address? The answer comes from the kernel, by binding a socket: an address without a carrier
 * counts, one for which IPv6 still looks for duplicates does not.
 * @returns undefined if it does, otherwise the reason in words
 */
export function findAddress(address: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.close();
      const isMissing = error.code === 'EADDRNOTAVAIL' || error.code === 'EINVAL';
      resolve(isMissing ? `${address} is not an address of this host` : `${address} cannot be used (${error.code})`);
    });
    socket.bind({ address, port: 0, exclusive: true }, () => {
      socket.close();
      resolve(undefined);
    });
  });
}
