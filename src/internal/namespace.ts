/**
 * The network namespace of weft's own sockets. It has no name, so nobody else enters it by accident, and
 * the kernel removes it, with all that it has, when this process ends in whatever way.
 *
 *   switch ── port `internal` ── eth0 in the namespace ── sockets
 *             169.254.77.5      169.254.77.6
 *
 * Everything leads to the switch, whose MAC is a static neighbor. The addresses are seen on this link
 * only, and are the same on every host.
 */
import { closeSync, fstatSync } from 'node:fs';
import { createNetns, exchangeWithNetns } from '../addon/netns.ts';
import { WeftError } from '../error.ts';
import { formatMac } from '../flow/types.ts';
import { SOCKET_QUEUE } from '../forwarding/rates.ts';
import { hasIpv6 } from '../link/host-forwarding.ts';
import { configureInterface } from '../link/interface.ts';
import { ipBatch } from '../link/ip.ts';
import type { NetnsRef } from '../link/netns.ts';
import { INTERNAL_MAC, INTERNAL_NAMESPACE_MAC } from '../table/topology.ts';

export const INTERNAL_IFNAME = 'eth0';

interface Link {
  readonly prefixLength: number;
  readonly weft: string;
  readonly socket: string;
}

const LINK4: Link = { prefixLength: 30, weft: '169.254.77.5', socket: '169.254.77.6' };
const LINK6: Link = { prefixLength: 126, weft: 'fd77:6566:7431::1', socket: 'fd77:6566:7431::2' };

/**
 * In bytes. Packets of this size fit every network that carries IPv6, so what the sockets send fits almost everywhere;
 * larger datagrams leave as fragments. What they receive may be larger.
 */
export const INTERNAL_MTU = 1280;

export interface InternalNamespace {
  readonly descriptor: number;
  readonly ref: NetnsRef;
  /** One for each family that this kernel has. */
  readonly links: readonly Link[];
}

/** @throws WeftError */
export async function createNamespace(): Promise<InternalNamespace> {
  const descriptor = createNetns();
  try {
    const { dev, ino } = fstatSync(descriptor, { bigint: true });
    const ref = { path: `/proc/self/fd/${descriptor}`, dev, ino };
    const hasIp6 = hasIpv6();
    const settings = [
      // The thread of the sockets has no capabilities.
      { path: '/proc/sys/net/ipv4/ip_unprivileged_port_start', value: '0' },
      ...(hasIp6 ? [{ path: '/proc/sys/net/ipv6/conf/default/disable_ipv6', value: '0' }] : []),
    ];
    const [reply] = await exchangeWithNetns([{ ...ref, settings, requests: new Uint8Array() }]);
    const failed = [reply!.result, ...reply!.settings].findIndex((result) => result !== 0);
    if (failed >= 0) {
      const what = failed === 0 ? 'a network namespace of weft’s own' : settings[failed - 1]!.path;
      throw new WeftError('system', `${what} cannot be set up: run weft as root`);
    }
    return { descriptor, ref, links: hasIp6 ? [LINK4, LINK6] : [LINK4] };
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/** Gives the interface, which must exist, its addresses and routes. @throws WeftError */
export async function configureNamespace({ ref, links }: InternalNamespace): Promise<void> {
  await configureInterface(ref, {
    ifname: INTERNAL_IFNAME,
    mac: formatMac(INTERNAL_NAMESPACE_MAC),
    mtu: INTERNAL_MTU,
    addresses: links.map(({ socket, prefixLength }) => ({ ip: socket, prefixLength })),
    hasLinkLocal: false,
    neighbors: links.map(({ weft }) => ({ ip: weft, mac: formatMac(INTERNAL_MAC) })),
  });
  await ipBatch(ref, [
    `link set dev ${INTERNAL_IFNAME} txqueuelen ${SOCKET_QUEUE}`,
    ...links.map(({ weft }) => `route add default via ${weft} dev ${INTERNAL_IFNAME}`),
  ]);
}

/** Ends it, as soon as nothing else is in it. */
export function closeNamespace({ descriptor }: InternalNamespace): void {
  closeSync(descriptor);
}
