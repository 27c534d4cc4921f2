/** The state of the outside, for `weft doctor`: its facts, and what else may be in the way. */
import { isForwarding } from '../link/host-forwarding.ts';
import { ownNetns } from '../link/netns.ts';
import { listChains, type BaseChain } from '../link/nft.ts';
import type { Fact } from './facts.ts';
import { findTransitClash, OUTSIDE_IFNAME, transit, type OutsideLink } from './link.ts';
import type { AllowHost } from './rules.ts';

export interface OutsideState {
  /** Why nftables cannot be used; undefined if they can. */
  readonly nftFailure?: string;
  /** One line for each difference from what should be. Undefined while it is not open. */
  readonly open?: { readonly rules: readonly string[]; readonly link: readonly string[] };
  /** `ip6` is undefined on a host without IPv6. */
  readonly forwarding: { readonly ip4: boolean; readonly ip6?: boolean | undefined };
  /**
   * Chains of other tables whose policy is to drop, as `FAMILY TABLE CHAIN`. Rules of iptables-legacy do
   * not show in nftables, nor does this show a chain that ends with a drop rule.
   */
  readonly droppingChains: readonly string[];
  /** Who else uses addresses of the transit networks, in one line. */
  readonly clash?: string;
}

/**
 * Changes nothing. Looks at the network namespace that this process is in. @param outside undefined if it is not open
 */
export async function inspectOutside(outside: OutsideLink | undefined, allowHost: AllowHost): Promise<OutsideState> {
  const clash = await findTransitClash(await ownNetns(), { ifname: OUTSIDE_IFNAME, transit });
  const found = {
    ...(outside && { open: await differencesOf(outside) }),
    forwarding: isForwarding(),
    ...(clash !== undefined && { clash }),
  };
  try {
    return { ...found, droppingChains: droppingChains(await listChains(), allowHost) };
  } catch (error) {
    return { ...found, nftFailure: (error as Error).message, droppingChains: [] };
  }
}

async function differencesOf(outside: OutsideLink): Promise<NonNullable<OutsideState['open']>> {
  const found: Record<Fact['name'], string[]> = { rules: [], link: [], forwarding: [] };
  for (const { name, differences } of outside.facts()) found[name] = await differences();
  return { rules: found.rules, link: found.link };
}

/** Of the chains that forwarded packets pass, and of those for incoming packets if any port of the host is allowed. */
function droppingChains(chains: readonly BaseChain[], allowHost: AllowHost): string[] {
  const hooks = ['forward', ...(allowHost === true || (allowHost !== false && allowHost.length > 0) ? ['input'] : [])];
  return chains
    .filter(({ hook, policy }) => hook !== undefined && hooks.includes(hook) && policy === 'drop')
    .filter(({ family }) => ['ip', 'ip6', 'inet'].includes(family))
    .map(({ family, table, name }) => `${family} ${table} ${name}`);
}
