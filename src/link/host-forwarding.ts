/**
 * The host as a router, which it must be between weft's transit link and the world. Forwarding
 * is switched on where it is off, and never switched off again: others rely on it, too
 * (container engines, virtual machines), and nobody could tell whether they do.
 *
 * A host that forwards IPv6 ignores router advertisements and forgets the default routes that
 * it got from them. Interfaces that accept them are told to go on doing so (`accept_ra` 2)
 * before forwarding is switched on, so that no route is lost.
 */
import { readdirSync } from 'node:fs';
import { readSetting, writeSetting } from './sysctl.ts';

const IPV4 = 'ipv4/ip_forward';
const IPV6 = 'ipv6/conf/all/forwarding';

/** Can this host have IPv6 addresses at all? */
export function hasIpv6(): boolean {
  return readSetting('ipv6/conf/all/disable_ipv6') === '0';
}

/** @returns `ip6` is undefined if the host has no IPv6 */
export function isForwarding(): { readonly ip4: boolean; readonly ip6: boolean | undefined } {
  return { ip4: readSetting(IPV4) === '1', ip6: hasIpv6() ? readSetting(IPV6) !== '0' : undefined };
}

/** Switches it on. @returns the settings that were changed, for the log @throws WeftError('system') */
export function startForwarding(): string[] {
  const changed: string[] = [];
  const set = (name: string, value: string): void => {
    if (writeSetting(name, value)) changed.push(`net.${name.replaceAll('/', '.')}=${value}`);
  };
  set(IPV4, '1');
  const { ip6 } = isForwarding();
  if (ip6 !== false) return changed;
  for (const ifname of readdirSync('/proc/sys/net/ipv6/conf')) {
    if (['all', 'default', 'lo'].includes(ifname)) continue;
    const takesAdvertisements =
      readSetting(`ipv6/conf/${ifname}/accept_ra`) === '1' && readSetting(`ipv6/conf/${ifname}/forwarding`) === '0';
    if (takesAdvertisements) set(`ipv6/conf/${ifname}/accept_ra`, '2');
  }
  set(IPV6, '1');
  return changed;
}
