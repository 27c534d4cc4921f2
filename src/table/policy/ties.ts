/**
 * Ties: ClusterNetworkPolicies of the same tier and priority that select the same workload, and may contradict each other.
 * Their names decide which one is asked first. That is the same on all hosts, but nobody has chosen it, so it is told.
 */
import type { Policy, PolicyDirection, PolicyName, PolicyTier } from './policy.ts';

export interface PolicyTie {
  readonly tier: PolicyTier;
  readonly priority: number;
  readonly direction: PolicyDirection;
  /** In the order in which they are asked. */
  readonly policies: readonly PolicyName[];
}

/** @param policies those with rules for the direction, in the order in which they are asked */
export function tiesOf(policies: readonly Policy[], direction: PolicyDirection): readonly PolicyTie[] {
  if (policies.every(isUntied)) return none;
  const groups = new Map<string, Policy[]>();
  for (const policy of policies) {
    if (isUntied(policy)) continue;
    const id = `${policy.tier} ${policy.priority}`;
    const group = groups.get(id);
    if (group) group.push(policy);
    else groups.set(id, [policy]);
  }
  return [...groups.values()]
    .filter((group) => group.length > 1 && new Set(group.flatMap((policy) => actionsOf(policy, direction))).size > 1)
    .map((group) => ({
      ...{ tier: group[0]!.tier, priority: group[0]!.priority, direction },
      policies: group.map(({ name }) => name),
    }));
}

const none: readonly PolicyTie[] = [];

/** True if nothing depends on where it comes among others. */
function isUntied({ tier, isStaged }: Policy): boolean {
  return tier === 'network' || isStaged;
}

function actionsOf(policy: Policy, direction: PolicyDirection): readonly string[] {
  return (policy[direction] ?? []).map(({ action }) => action);
}
