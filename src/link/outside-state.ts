/** What the outside depends on and others may have changed, for `weft doctor`. */
import { isForwarding } from './host-forwarding.ts';
import { ownNetns } from './netns.ts';
import { listChains } from './nft.ts';
import { findTransitClash, OUTSIDE_IFNAME, transit } from './outside.ts';
import { isOwnChain } from './outside-rules.ts';

export interface OutsideState {
  /** Why nftables cannot be used; undefined when they can. */
  readonly nftFailure?: string;
  /** Is the table of the rules there? */
  readonly hasRules: boolean;
  /** `ip6` undefined on a host without IPv6. */
  readonly forwarding: { readonly ip4: boolean; readonly ip6?: boolean | undefined };
  /**
   * Chains of others that drop what no rule of theirs accepts, as `FAMILY TABLE CHAIN`. What iptables-legacy
   * has does not show in nftables, nor does a chain that ends in a rule to drop.
   */
  readonly droppingChains: readonly string[];
  /** Who else is within the transit networks, in one line. */
  readonly clash?: string;
}

/** Looks, and changes nothing. Of the network namespace that this process is in. */
export async function inspectOutside(): Promise<OutsideState> {
  const clash = await findTransitClash(await ownNetns(), { ifname: OUTSIDE_IFNAME, transit });
  const found = { forwarding: isForwarding(), ...(clash !== undefined && { clash }) };
  try {
    const chains = await listChains();
    return {
      ...found,
      hasRules: chains.some(isOwnChain),
      droppingChains: chains
        .filter((chain) => !isOwnChain(chain) && chain.hook === 'forward' && chain.policy === 'drop')
        .filter(({ family }) => ['ip', 'ip6', 'inet'].includes(family))
        .map(({ family, table, name }) => `${family} ${table} ${name}`),
    };
  } catch (error) {
    return { ...found, nftFailure: (error as Error).message, hasRules: false, droppingChains: [] };
  }
}
