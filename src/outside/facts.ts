/**
 * What the outside depends on and other programs may change, as one list of facts. Each fact is compared with the
 * kernel, not with what weft once told it. Start and renewal restore what differs; `weft status` shows what could not
 * be restored, and `weft doctor` reads all facts.
 *
 * udev and NetworkManager give interfaces other MACs, and hardening scripts set `ip_forward` to 0.
 */
import { WeftError } from '../error.ts';
import { formatIp, parseIp } from '../flow/types.ts';
import { isForwarding, startForwarding } from '../link/host-forwarding.ts';
import { configureInterface, type InterfaceConfig } from '../link/interface.ts';
import { firstLine, ip } from '../link/ip.ts';
import type { NetnsRef } from '../link/netns.ts';
import { readSetting, writeSetting } from '../link/sysctl.ts';

export interface Fact {
  readonly name: 'rules' | 'link' | 'forwarding';
  /** Reads the kernel and changes nothing. @returns one line for each difference from what should be */
  readonly differences: () => Promise<string[]>;
  /** Makes it as it should be. @throws WeftError with what the kernel refused */
  readonly mend: () => Promise<void>;
}

/** weft0: its MAC, MTU, addresses, neighbors and settings, and that it is up. */
export function linkFact(ns: NetnsRef, config: InterfaceConfig, hasIp6: boolean): Fact {
  const settings = settingsOf(config.ifname, hasIp6);
  return {
    name: 'link',
    differences: async () => [
      ...(await interfaceDifferences(ns, config)),
      ...settings.flatMap(([name, wanted]) => settingDifference(name, wanted)),
    ],
    mend: async () => {
      const set = (): void => settings.forEach(([name, wanted]) => writeSetting(name, wanted));
      set();
      await configureInterface(ns, config);
      // An MTU below IPv6's minimum removed the IPv6 settings; they come back with their defaults.
      set();
    },
  };
}

/** The host as a router. @param onChanged with the settings that were changed */
export function forwardingFact(onChanged: (changed: readonly string[]) => void): Fact {
  return {
    name: 'forwarding',
    differences: async () => {
      const { ip4, ip6 } = isForwarding();
      const off = [...(ip4 ? [] : ['net.ipv4.ip_forward']), ...(ip6 === false ? ['net.ipv6.conf.all.forwarding'] : [])];
      return off.map((name) => `${name} is 0`);
    },
    mend: async () => {
      const changed = startForwarding();
      if (changed.length > 0) onChanged(changed);
    },
  };
}

/**
 * The switch advertises no routes, and weft0 accepts none, nor redirects, which nobody there sends. What the host itself sends to
 * published ports at 127.0.0.1 goes there.
 */
function settingsOf(ifname: string, hasIp6: boolean): readonly (readonly [name: string, wanted: string])[] {
  return [
    [`ipv4/conf/${ifname}/route_localnet`, '1'],
    [`ipv6/conf/${ifname}/accept_ra`, '0'],
    [`ipv6/conf/${ifname}/router_solicitations`, '0'],
    ...(hasIp6 ? ([[`ipv6/conf/${ifname}/disable_ipv6`, '0']] as const) : []),
    ...['ipv4', 'ipv6'].flatMap((family) => [
      [`${family}/conf/${ifname}/forwarding`, '1'] as const,
      [`${family}/conf/${ifname}/accept_redirects`, '0'] as const,
    ]),
  ];
}

function settingDifference(name: string, wanted: string): string[] {
  const found = readSetting(name);
  return found === undefined || found === wanted ? [] : [`net.${name.replaceAll('/', '.')} is ${found}, not ${wanted}`];
}

interface AddressJson {
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly address: string;
  readonly addr_info: readonly { readonly local?: string; readonly prefixlen?: number }[];
}

interface NeighborJson {
  readonly dst: string;
  readonly lladdr?: string;
  readonly state: readonly string[];
}

async function interfaceDifferences(ns: NetnsRef, config: InterfaceConfig): Promise<string[]> {
  const { ifname, mac, mtu, addresses, neighbors = [] } = config;
  const [link] = (await read(ns, ['address', 'show', 'dev', ifname])) as AddressJson[];
  if (!link) return [`${ifname} is gone`];
  const present = link.addr_info.map(({ local, prefixlen }) => `${local && formatIp(parseIp(local))}/${prefixlen}`);
  const known = (await read(ns, ['neighbor', 'show', 'dev', ifname])) as NeighborJson[];
  const isKnown = (neighbor: { readonly ip: string; readonly mac: string }): boolean =>
    known.some(
      ({ dst, lladdr, state }) =>
        formatIp(parseIp(dst)) === neighbor.ip && lladdr === neighbor.mac && state.includes('PERMANENT'),
    );
  return [
    ...(link.flags.includes('UP') ? [] : [`${ifname} is down`]),
    ...(link.address === mac ? [] : [`${ifname} has MAC ${link.address}, not ${mac}`]),
    ...(link.mtu === mtu ? [] : [`${ifname} has MTU ${link.mtu}, not ${mtu}`]),
    ...addresses
      .map((address) => `${formatIp(parseIp(address.ip))}/${address.prefixLength}`)
      .filter((text) => !present.includes(text))
      .map((text) => `${ifname} has no address ${text}`),
    ...neighbors
      .filter((neighbor) => !isKnown(neighbor))
      .map((neighbor) => `${ifname} has no permanent neighbor ${neighbor.ip} at ${neighbor.mac}`),
  ];
}

/** @returns an empty list if the interface does not exist */
async function read(ns: NetnsRef, args: readonly string[]): Promise<unknown[]> {
  const { exitCode, stdout, stderr } = await ip(ns, ['-j', ...args]);
  if (exitCode === 0) return JSON.parse(stdout.trim() || '[]') as unknown[];
  if (/does not exist|Cannot find device/.test(stderr)) return [];
  throw new WeftError('system', `\`ip ${args.join(' ')}\` failed: ${firstLine(stderr)}`);
}
