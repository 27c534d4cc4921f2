/**
 * What is doubtful about policies, for `weft doctor`. None of it is wrong, and all of it is often not what was meant:
 *
 *   ties            ClusterNetworkPolicies of one tier and priority that contradict each other: their names decide
 *   selects nobody  a policy that selects no endpoint, perhaps because of a label that is written differently
 *   port names      a rule for a named port that none of the endpoints has which it is for
 *   blocks          an ipBlock that accepts endpoints as well, by their addresses, where strangers may be meant alone
 */
import type { ClashReport } from '../../model/report.ts';
import { formatPrefix, isInPrefix, type Prefix } from '../../table/routes.ts';
import type { PolicyTie } from '../../table/policy/ties.ts';
import {
  policyDirections,
  type Identity,
  type Policy,
  type PolicyDirection,
  type PolicyRule,
} from '../../table/policy/policy.ts';
import { SelectorIndex, selects, type WorkloadSelector } from '../../table/policy/selectors.ts';
import type { SelectingPolicy } from './policy-value.ts';

/** What is looked at. */
export interface DoubtsQuestion {
  readonly policies: readonly SelectingPolicy[];
  /** What policies see of the endpoints of the cluster, each once. */
  readonly identities: ReadonlySet<Identity>;
  readonly networks: readonly { readonly name: string; readonly subnets: readonly Prefix[] }[];
  readonly ties: readonly PolicyTie[];
}

/** How many of them are told. */
const MOST_TOLD = 32;

export function doubtsAbout(question: DoubtsQuestion): ClashReport[] {
  const selected = selectedBy(question);
  const all = [
    ...question.ties.map(ofTie),
    ...question.policies.flatMap((policy, at) => ofPolicy(policy.policy, selected[at]!, question)),
  ];
  const more = all.length - MOST_TOLD;
  if (more <= 0) return all;
  const hint = 'mend those that are named, then ask again';
  return [...all.slice(0, MOST_TOLD), { detail: `${more} more policies are doubtful`, hint }];
}

/** The identities that each policy selects. */
function selectedBy({ policies, identities }: DoubtsQuestion): readonly (readonly Identity[])[] {
  const index = new SelectorIndex<{ readonly selector: WorkloadSelector; readonly selected: Identity[] }>();
  const all = policies.map(({ selector }) => ({ selector, selected: [] as Identity[] }));
  for (const one of all) index.add(one);
  for (const identity of identities) for (const { selected } of index.matching(identity)) selected.push(identity);
  return all.map(({ selected }) => selected);
}

function ofTie({ tier, priority, direction, policies }: PolicyTie): ClashReport {
  const names = policies.map(({ name }) => name).join(', ');
  return {
    detail: `clusternetworkpolicies ${names} of tier ${tier} have priority ${priority}, and contradict each other for ${direction}: they are asked in the order of their names`,
    hint: 'give them different priorities',
  };
}

function ofPolicy(policy: Policy, selected: readonly Identity[], question: DoubtsQuestion): ClashReport[] {
  const name = `${policy.name.kind.toLowerCase()} ${policy.name.name}`;
  if (selected.length === 0) {
    return [{ detail: `${name} selects no endpoint`, hint: 'compare its selector with `weft get ep -A`' }];
  }
  return policyDirections.flatMap((direction) =>
    (policy[direction] ?? []).flatMap((rule, index) => {
      const where = `${name}, spec.${direction}[${index}]`;
      return [
        ...ofPorts(where, direction, rule, selected, question.identities),
        ...ofBlocks(where, rule, question.networks),
      ];
    }),
  );
}

function ofPorts(
  where: string,
  direction: PolicyDirection,
  rule: PolicyRule,
  selected: readonly Identity[],
  identities: ReadonlySet<Identity>,
): ClashReport[] {
  const names = (rule.ports ?? []).flatMap((match) => (match.kind === 'name' ? [match] : []));
  if (names.length === 0) return [];
  const destinations = direction === 'ingress' ? selected : [...identities].filter((one) => isPeer(rule, one));
  return names
    .filter(({ name, protocol }) => !destinations.some(({ ports }) => hasPort(ports, name, protocol)))
    .map(({ name }) => ({
      detail: `${where}: no endpoint that it is for has a port named ${name}, so it matches nothing there`,
      hint: 'name the port in `ports` of the endpoints, or give its number',
    }));
}

function hasPort(ports: Identity['ports'], name: string, protocol: number | undefined): boolean {
  return ports.some((port) => port.name === name && (protocol ?? port.protocol) === port.protocol);
}

function isPeer({ peers }: PolicyRule, identity: Identity): boolean {
  return !peers || peers.some((peer) => peer.kind === 'workloads' && selects(peer, identity));
}

function ofBlocks(where: string, { action, peers }: PolicyRule, networks: DoubtsQuestion['networks']): ClashReport[] {
  if (action !== 'accept') return [];
  return (peers ?? []).flatMap((peer) => {
    if (peer.kind !== 'block') return [];
    const covered = networks.filter(({ subnets }) =>
      subnets.some((subnet) => {
        const both = common(peer.block, subnet);
        return both && !peer.except.some((except) => except.length <= both.length && isInPrefix(except, both.ip));
      }),
    );
    if (covered.length === 0) return [];
    const names = covered.map(({ name }) => name).join(', ');
    return [
      {
        detail: `${where}: ipBlock ${formatPrefix(peer.block)} accepts endpoints of ${names} as well, by their addresses`,
        hint: 'leave the subnets out with `except` if they are not meant, or select endpoints by labels',
      },
    ];
  });
}

/** The one of two prefixes that is within the other; undefined if they have nothing in common. */
function common(a: Prefix, b: Prefix): Prefix | undefined {
  const [outer, inner] = a.length <= b.length ? [a, b] : [b, a];
  return isInPrefix(outer, inner.ip) ? inner : undefined;
}
