/** Rules as they are asked: those of one policy in one direction, which all rule sets with that policy share. */
import { isIp4 } from '../../flow/types.ts';
import { covers, rangeOf, type BlockRange } from './block-range.ts';
import type { Policy, PolicyDirection, PolicyPeer, PolicyPort, PolicyRule, PortMatch } from './policy.ts';
import type { DestinationPorts } from './ports.ts';
import type { WorkloadSelector } from './selectors.ts';

/** A rule that can match something. */
export interface Rule {
  readonly policy: Policy;
  /** Its place in the policy. */
  readonly index: number;
  /** Its place among those that can match something. */
  readonly place: number;
  readonly source: string | undefined;
  readonly action: PolicyRule['action'];
  readonly peers: PolicyRule['peers'];
  /** The workloads and the address blocks that its peers are. */
  readonly selectors: readonly RuleSelector[];
  readonly blocks: readonly RuleBlock[];
  /** What it says itself, for people; `ranges` and `names` are what counts. */
  readonly ports: PolicyRule['ports'];
  /** Undefined: all ports of all protocols. */
  readonly ranges: readonly ProtocolRange[] | undefined;
  /** Ports that are resolved at the peer. */
  readonly names: readonly NamedMatch[];
}

/** Workloads that a rule matches. */
export interface RuleSelector {
  /** Equal for selectors that say the same. */
  readonly id: string;
  readonly selector: WorkloadSelector;
}

/** Addresses that a rule matches, without those that are excepted. */
export interface RuleBlock {
  readonly rule: Rule;
  readonly range: BlockRange;
  /** Each is in `range`, and not all of it. */
  readonly except: readonly BlockRange[];
}

export type ProtocolRange = DestinationPorts & { readonly protocol: number };
type NamedMatch = Extract<PortMatch, { kind: 'name' }>;

const known: Readonly<Record<PolicyDirection, WeakMap<Policy, readonly Rule[]>>> = {
  ingress: new WeakMap(),
  egress: new WeakMap(),
};

/** @param ports named ports of the workload that has the policy */
export function rulesOf(policy: Policy, direction: PolicyDirection, ports: readonly PolicyPort[]): readonly Rule[] {
  if (ports.length > 0 && direction === 'ingress' && namesPorts(policy)) return makeRules(policy, direction, ports);
  let rules = known[direction].get(policy);
  if (!rules) known[direction].set(policy, (rules = makeRules(policy, direction, [])));
  return rules;
}

function makeRules(policy: Policy, direction: PolicyDirection, ports: readonly PolicyPort[]): readonly Rule[] {
  const rules: Rule[] = [];
  for (const [index, rule] of policy[direction]!.entries()) {
    const at = { policy, index, place: rules.length, source: rule.source };
    if (!rule.isUnreadable) rules.push(ruleOf(at, rule, direction === 'ingress' ? ports : undefined));
    else if (rule.action !== 'accept') rules.push({ ...at, ...deniesEverything });
  }
  return rules;
}

const deniesEverything: Omit<Rule, 'policy' | 'index' | 'place' | 'source'> = {
  ...{ action: 'deny', peers: undefined, selectors: [], blocks: [], ports: undefined, ranges: undefined, names: [] },
};

/** @param ports by which named ports are resolved now; undefined: that is for the peers to do */
function ruleOf(
  at: Pick<Rule, 'policy' | 'index' | 'place' | 'source'>,
  { action, peers, ports: matches }: PolicyRule,
  ports: readonly PolicyPort[] | undefined,
): Rule {
  const names = matches?.filter((match) => match.kind === 'name') ?? [];
  const numbers = matches?.filter((match) => match.kind === 'range');
  const blocks: RuleBlock[] = [];
  const rule: Rule = {
    ...{ ...at, action, peers, selectors: selectorsOf(peers), blocks, ports: matches },
    ranges: numbers && ports ? [...numbers, ...resolve(names, ports)] : numbers,
    names: ports ? [] : names,
  };
  for (const peer of peers ?? []) if (peer.kind === 'block') blocks.push(...blocksOf(rule, peer));
  return rule;
}

/** Each once. */
function selectorsOf(peers: PolicyRule['peers']): readonly RuleSelector[] {
  const found = new Map<string, RuleSelector>();
  for (const peer of peers ?? []) {
    if (peer.kind === 'block') continue;
    const id = JSON.stringify([peer.namespaces, peer.pods]);
    found.set(id, { id, selector: peer });
  }
  return [...found.values()];
}

/** None if exceptions take all of it away. */
function blocksOf(rule: Rule, { block, except }: Extract<PolicyPeer, { kind: 'block' }>): readonly RuleBlock[] {
  const range = rangeOf(block);
  const others = except.filter(({ ip }) => isIp4(ip) === isIp4(block.ip)).map(rangeOf);
  if (others.some((other) => covers(other, range))) return [];
  return [{ rule, range, except: others.filter((other) => covers(range, other)) }];
}

/** The ports that have these names. */
export function resolve(names: readonly NamedMatch[], ports: readonly PolicyPort[]): readonly ProtocolRange[] {
  return names.flatMap(({ name, protocol }) =>
    ports
      .filter((port) => port.name === name && (protocol ?? port.protocol) === port.protocol)
      .map((port) => ({ protocol: port.protocol, first: port.l4Port, last: port.l4Port })),
  );
}

/** True if a rule for ingress asks for a port by its name. */
export function namesPorts(policy: Policy): boolean {
  let names = thatNamePorts.get(policy);
  if (names === undefined) {
    const { ingress = [] } = policy;
    names = ingress.some(({ ports = [] }) => ports.some(({ kind }) => kind === 'name'));
    thatNamePorts.set(policy, names);
  }
  return names;
}

const thatNamePorts = new WeakMap<Policy, boolean>();
