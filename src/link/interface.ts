/**
 * The interface to the outside, on the host. It belongs to weft alone and has exactly what it is given. (Interfaces in
 * containers also belong to their containers: interface-plan.ts.)
 *
 * `configureInterface` reads what is there and writes only what differs, in one batch: an
 * interface that is right already (re-attached after a restart) is not touched, and its
 * connections and neighbors stay.
 *
 * The MAC, and the way IPv6 makes the link-local address, are set while the interface is down,
 * so that the kernel forms fe80::/64 + EUI-64 of exactly this MAC when it comes up: the one
 * link-local address that anti-spoofing admits.
 */
import { WeftError } from '../error.ts';
import { formatIp, formatMac, isIp4, linkLocalOf, parseIp, parseMac } from '../flow/types.ts';
import { firstLine, ip, ipBatch } from './ip.ts';
import type { NetnsRef } from './netns.ts';

export interface InterfaceAddress {
  /** Text, in the form of `formatIp`. */
  readonly ip: string;
  readonly prefixLength: number;
  /** Only for its own link: the kernel does not choose it as the source address towards other destinations. */
  readonly isLinkOnly?: boolean;
}

export interface InterfaceConfig {
  readonly ifname: string;
  readonly mac: string;
  readonly mtu: number;
  /** All addresses that it must have, besides its link-local one. */
  readonly addresses: readonly InterfaceAddress[];
  /** Does IPv6 give it a link-local address? Yes by default. */
  readonly hasLinkLocal?: boolean;
  /** Static neighbors, which are never asked for. */
  readonly neighbors?: readonly { readonly ip: string; readonly mac: string }[];
}

/** The fields that weft reads of `ip -j -d link show`, together with the `addr_info` of `address show`. */
interface LinkJson {
  readonly ifindex: number;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly address: string;
  /** Missing if the kernel has no IPv6. */
  readonly inet6_addr_gen_mode?: string;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: { readonly type?: string; readonly numqueues?: number; readonly numdisabled?: number };
  };
  readonly addr_info: readonly { readonly family: string; readonly local?: string; readonly prefixlen?: number }[];
}

const RESERVED_NAMES = ['lo', 'all', 'default'];

/**
 * @throws WeftError `invalid`. Stricter than the kernel: accepts only names that need no quoting in iproute2 and
 * sysctl.
 */
export function checkIfname(ifname: string): void {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/.test(ifname)) {
    throw new WeftError(
      'invalid',
      `"${ifname}" is not an interface name: 1 to 15 letters, digits, "_", "." and "-", the first a letter, digit or "_"`,
    );
  }
  if (RESERVED_NAMES.includes(ifname)) {
    throw new WeftError('invalid', `"${ifname}" is a reserved interface name; choose another, such as eth0`);
  }
}

/** The TAP that has this name now, and whether a process has it open; undefined if there is none. */
export async function findTap(
  ns: NetnsRef,
  ifname: string,
): Promise<{ readonly ifindex: number; readonly mac: string; readonly isOpen: boolean } | undefined> {
  const link = await readLink(ns, ifname);
  const { type, numqueues = 0, numdisabled = 0 } = link?.linkinfo?.info_data ?? {};
  if (link?.linkinfo?.info_kind !== 'tun' || type !== 'tap') return undefined;
  return { ifindex: link.ifindex, mac: link.address, isOpen: numqueues + numdisabled > 0 };
}

/**
 * Gives an interface exactly this MAC, MTU and these addresses, and brings it up.
 * Idempotent. @throws WeftError `not_found`, or `system` with the command that the kernel refused.
 */
export async function configureInterface(ns: NetnsRef, config: InterfaceConfig): Promise<void> {
  const { ifname, mtu, hasLinkLocal = true, neighbors = [] } = config;
  const mode = hasLinkLocal ? 'eui64' : 'none';
  const mac = formatMac(parseMac(config.mac));
  const wanted = config.addresses.map((address) => ({ ...address, ...canonical(address) }));
  const link = await readLinkOrThrow(ns, ifname);
  const present = addressesOf(link);
  const linkLocal = hasLinkLocal ? formatIp(linkLocalOf(parseMac(mac))) : undefined;

  const wrongMac = link.address !== mac;
  const wrongMode = link.inet6_addr_gen_mode !== undefined && link.inet6_addr_gen_mode !== mode;
  const up = link.flags.includes('UP');
  const restart = up && (wrongMac || wrongMode);
  const strays = present.filter((one) => one.ip !== linkLocal && !wanted.some((address) => sameAddress(one, address)));
  // Taking it down removes all IPv6 addresses; deleting a primary IPv4 address removes its
  // secondaries.
  const renew = restart || strays.length > 0;

  const commands: string[] = [];
  // Secondaries are listed after their primary.
  for (const { ip: text, prefixLength } of strays.toReversed()) {
    commands.push(`address del ${text}/${prefixLength} dev ${ifname}`);
  }
  if (restart) commands.push(`link set dev ${ifname} down`);
  if (wrongMac) commands.push(`link set dev ${ifname} address ${mac}`);
  if (wrongMode) commands.push(`link set dev ${ifname} addrgenmode ${mode}`);
  if (link.mtu !== mtu) commands.push(`link set dev ${ifname} mtu ${mtu}`);
  if (!up || restart) commands.push(`link set dev ${ifname} up`);
  for (const address of wanted) {
    if (!renew && present.some((one) => sameAddress(one, address))) continue;
    commands.push(`address replace ${address.ip}/${address.prefixLength} dev ${ifname}${addressFlags(address)}`);
  }
  for (const { ip: text, mac: lladdr } of neighbors) {
    commands.push(`neighbor replace ${text} lladdr ${lladdr} dev ${ifname} nud permanent`);
  }
  await ipBatch(ns, commands);
}

function addressFlags({ ip: text, isLinkOnly = false }: InterfaceAddress): string {
  if (isIp4(parseIp(text))) return isLinkOnly ? ' scope link' : ' broadcast +';
  // weft gave the address and answers for it, so there is no need to detect duplicates. IPv6 addresses have
  // no scope that could be set, but a deprecated address is chosen last (RFC 6724 section 5, rule 3).
  return isLinkOnly ? ' nodad preferred_lft 0' : ' nodad';
}

async function readLinkOrThrow(ns: NetnsRef, ifname: string): Promise<LinkJson> {
  const link = await readLink(ns, ifname);
  if (!link) throw new WeftError('not_found', `interface "${ifname}" does not exist in ${ns.path}`);
  return link;
}

async function readLink(ns: NetnsRef, ifname: string): Promise<LinkJson | undefined> {
  checkIfname(ifname);
  // `address show` leaves out how IPv6 makes its addresses. One process prints both, one line each, in
  // this order:
  // after a `link` command, iproute2 forgets the addresses in the rest of a batch.
  const both = `address show dev ${ifname}\nlink show dev ${ifname}\n`;
  const { exitCode, stdout, stderr } = await ip(ns, ['-j', '-d', '-batch', '-'], both);
  if (exitCode === 0) {
    const [addresses, link] = stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as [LinkJson])[0]);
    return { ...link!, addr_info: addresses!.addr_info };
  }
  if (stderr.includes('does not exist')) return undefined;
  throw new WeftError('system', `interface "${ifname}" in ${ns.path} cannot be read: ${firstLine(stderr)}`);
}

function addressesOf(link: LinkJson): InterfaceAddress[] {
  return link.addr_info.flatMap(({ local, prefixlen }) =>
    local === undefined || prefixlen === undefined ? [] : [canonical({ ip: local, prefixLength: prefixlen })],
  );
}

function canonical({ ip: text, prefixLength }: InterfaceAddress): InterfaceAddress {
  return { ip: formatIp(parseIp(text)), prefixLength };
}

function sameAddress(a: InterfaceAddress, b: InterfaceAddress): boolean {
  return a.ip === b.ip && a.prefixLength === b.prefixLength;
}
