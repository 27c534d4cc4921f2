/**
 * A rule set: all that policies say about one direction of the workloads that have them, compiled so that deciding takes the
 * same time however many rules there are.
 *
 *   peer ──► what it is   which selectors match its identity (`selectors.ts`), and the innermost address block that it is in
 *                         (`blocks.ts`): peers that are the same in both are matched by the same rules
 *        ──► port table   for such peers and one protocol: the destination ports, cut into ranges that have one judgement
 *                         each (`ports.ts`)
 *
 * Both are made when they are first needed, and kept as long as there is memory for it (`RuleSetMemory`).
 *
 * The order in which rules are asked is that of the tiers:
 *
 *   admin      by priority, then name, then as they are written: the first one that matches accepts or denies; if it passes,
 *              the rest of the tier is skipped
 *   network    if a NetworkPolicy has rules for this direction, even none: what one of them matches is accepted, all else
 *              is denied
 *   baseline   as admin
 *
 * What is not decided by then is allowed. So a rule has a number, its place in this order. A rule that cannot be read fails
 * closed (`policy.ts`).
 *
 * A named port is resolved at the destination: for ingress that is the workload that has the policies, so it is done when
 * the set is compiled; for egress it is the peer. There it matches nothing if the peer was found by its address only.
 *
 * Staged policies take part in a second outcome, which is only told.
 */
import type { PolicyJudgement, NearestRule, Outcome, RuleName } from './judgement.ts';
import type {
  Identity,
  OnDeny,
  Policy,
  PolicyDirection,
  PolicyName,
  PolicyPort,
  PolicyRule,
  PolicyTier,
  PortMatch,
} from './policy.ts';
import { RuleBlocks, type BlockNode, type RuleBlock } from './blocks.ts';
import { ALL_PORTS, cutPorts, FirstMatch, PortTable, type DestinationPorts, type PortsThatMatter } from './ports.ts';
import { SelectorIndex, type WorkloadSelector } from './selectors.ts';

/** How many of the policies that isolate are named, and of the peers and ports of a rule. */
const MOST_NAMED = 4;
const MOST_TOLD = 8;

/** Whom rules match: the one who asks is described by this and nothing else. */
export interface RulePeer {
  readonly address: Uint8Array;
  readonly identity: Identity | undefined;
}

/**
 * What rule sets may keep of what they have found out, all of them together, in entries of some tens of bytes. When that is
 * used up, all of them begin anew.
 */
export class RuleSetMemory {
  readonly #most: number;
  #used = 0;
  #generation = 0;

  constructor(most = 400_000) {
    this.#most = most;
  }

  /** Goes up whenever everything is to be forgotten. */
  get generation(): number {
    return this.#generation;
  }

  use(entries: number): void {
    this.#used += entries;
    if (this.#used <= this.#most) return;
    this.#used = 0;
    this.#generation++;
  }
}

export interface RuleSetOptions {
  readonly direction: PolicyDirection;
  /** In any order. Those that say nothing about the direction do not count. */
  readonly policies: readonly Policy[];
  /** Named ports of the workload. */
  readonly ports: readonly PolicyPort[];
  /** What its namespace says. */
  readonly onDeny: OnDeny;
}

/** A rule that can match something. */
interface Rule {
  readonly policy: Policy;
  readonly index: number;
  readonly source: string | undefined;
  readonly action: PolicyRule['action'];
  readonly peers: PolicyRule['peers'];
  /** What it says itself, for people; `ranges` and `names` are what counts. */
  readonly ports: PolicyRule['ports'];
  /** Undefined: all ports of all protocols. */
  readonly ranges: readonly ProtocolRange[] | undefined;
  /** Ports that are resolved at the peer. */
  readonly names: readonly NamedMatch[];
}

type ProtocolRange = DestinationPorts & { readonly protocol: number };
type NamedMatch = Extract<PortMatch, { kind: 'name' }>;

/** Identities that the same selectors match, and that have the same named ports as far as rules ask for them. */
interface IdentityClass {
  /** The rules that match them as workloads, or that match everybody; in order. */
  readonly rules: readonly number[];
  readonly ports: readonly PolicyPort[];
  /** By the innermost block that an address is in, then by protocol. */
  readonly tables: Map<BlockNode | undefined, Map<number, PortTable<PolicyJudgement>>>;
}

export class RuleSet {
  readonly #direction: PolicyDirection;
  readonly #onDeny: OnDeny;
  readonly #memory: RuleSetMemory;
  /** In the order in which they are asked. */
  readonly #rules: readonly Rule[];
  /** NetworkPolicies that have rules for this direction. */
  readonly #isolating: readonly Policy[];
  readonly #hasStaged: boolean;
  readonly #asksPortNames: boolean;
  /** Rules that match everybody. */
  readonly #everybody: readonly number[];
  readonly #selectors: SelectorIndex;
  /** The number of the first rule of the tier baseline. */
  readonly #firstOfBaseline: number;
  /** By protocol. */
  readonly #accepting = new Map<number, readonly number[]>();
  /** By selector. */
  readonly #rulesOfSelector: readonly (readonly number[])[];
  readonly #blocks: RuleBlocks | undefined;
  readonly asksIdentity: boolean;
  #generation = 0;
  readonly #byIdentity = new Map<Identity | undefined, IdentityClass>();
  readonly #classes = new Map<string, IdentityClass>();
  readonly #judgements = new Map<string, PolicyJudgement>();
  /** Whoever judges a peer mostly has asked before which ports matter for it. */
  #lastPeer: RulePeer | undefined;
  #lastProtocol = 0;
  #lastTable: PortTable<PolicyJudgement> | undefined;

  constructor({ direction, policies, ports, onDeny }: RuleSetOptions, memory: RuleSetMemory) {
    const relevant = policiesInOrder(policies, direction);
    this.#direction = direction;
    this.#onDeny = onDeny;
    this.#memory = memory;
    this.#rules = relevant.flatMap((policy) => rulesOf(policy, direction, ports));
    this.#isolating = relevant.filter(({ tier }) => tier === 'network');
    this.#hasStaged = relevant.some(({ isStaged }) => isStaged);
    const baseline = this.#rules.findIndex(({ policy }) => policy.tier === 'baseline');
    this.#firstOfBaseline = baseline < 0 ? this.#rules.length : baseline;
    this.#asksPortNames = this.#rules.some(({ names }) => names.length > 0);

    const everybody: number[] = [];
    const selectors = new Map<string, { readonly selector: WorkloadSelector; readonly rules: Set<number> }>();
    const blocks: RuleBlock[] = [];
    for (const [rule, { peers }] of this.#rules.entries()) {
      if (!peers) everybody.push(rule);
      for (const peer of peers ?? []) {
        if (peer.kind === 'block') blocks.push({ rule, block: peer.block, except: peer.except });
        else {
          const id = selectorId(peer);
          const known = selectors.get(id);
          if (known) known.rules.add(rule);
          else selectors.set(id, { selector: peer, rules: new Set([rule]) });
        }
      }
    }
    this.#everybody = everybody;
    this.#selectors = new SelectorIndex(Array.from(selectors.values(), ({ selector }) => selector));
    this.#rulesOfSelector = Array.from(selectors.values(), ({ rules }) => [...rules]);
    this.#blocks = blocks.length > 0 ? new RuleBlocks(blocks) : undefined;
    this.asksIdentity = selectors.size > 0 || this.#asksPortNames;
  }

  portsFor(peer: RulePeer, protocol: number): PortsThatMatter {
    return this.#tableFor(peer, protocol).mattering;
  }

  judge(peer: RulePeer, protocol: number, l4Port: number): PolicyJudgement {
    return this.#tableFor(peer, protocol).at(l4Port);
  }

  #tableFor(peer: RulePeer, protocol: number): PortTable<PolicyJudgement> {
    if (this.#generation !== this.#memory.generation) this.#forget();
    if (peer !== this.#lastPeer || protocol !== this.#lastProtocol) {
      this.#lastTable = this.#findTable(peer, protocol);
      this.#lastPeer = peer;
      this.#lastProtocol = protocol;
    }
    return this.#lastTable!;
  }

  #findTable(peer: RulePeer, protocol: number): PortTable<PolicyJudgement> {
    const ofIdentity = this.#classOf(peer.identity);
    const node = this.#blocks?.find(peer.address);
    let tables = ofIdentity.tables.get(node);
    if (!tables) ofIdentity.tables.set(node, (tables = new Map()));
    let table = tables.get(protocol);
    if (!table) {
      tables.set(protocol, (table = this.#makeTable(ofIdentity, node, protocol)));
      this.#memory.use(4 + table.size);
    }
    return table;
  }

  #forget(): void {
    this.#generation = this.#memory.generation;
    this.#lastPeer = undefined;
    this.#byIdentity.clear();
    this.#classes.clear();
    this.#judgements.clear();
  }

  #classOf(identity: Identity | undefined): IdentityClass {
    const asked = this.asksIdentity ? identity : undefined;
    let known = this.#byIdentity.get(asked);
    if (known) return known;
    const matching = asked ? this.#selectors.matching(asked) : [];
    const ports = asked && this.#asksPortNames ? asked.ports : [];
    const id = `${matching.join()} ${ports.map(({ name, protocol, l4Port }) => `${name}/${protocol}/${l4Port}`).join()}`;
    known = this.#classes.get(id);
    if (!known) {
      const rules = [...this.#everybody, ...matching.flatMap((selector) => this.#rulesOfSelector[selector]!)];
      this.#classes.set(id, (known = { rules: inOrder(rules), ports, tables: new Map() }));
      this.#memory.use(4 + matching.length + rules.length);
    }
    this.#byIdentity.set(asked, known);
    this.#memory.use(2);
    return known;
  }

  /** @param node the innermost block that the peers are in */
  #makeTable(ofIdentity: IdentityClass, node: BlockNode | undefined, protocol: number): PortTable<PolicyJudgement> {
    const asWorkload = new Set(ofIdentity.rules);
    const rules = node ? inOrder([...ofIdentity.rules, ...node.rules()]) : ofIdentity.rules;
    const ranges = rules.map((rule) => {
      const all = this.#rangesOf(rule, asWorkload.has(rule), ofIdentity.ports);
      return all ? all.filter((range) => range.protocol === protocol) : [ALL_PORTS];
    });
    const starts = cutPorts(ranges.flat());
    const outcomes = (withStaged: boolean): readonly string[] => {
      const tiers = {
        admin: new FirstMatch(starts),
        network: new FirstMatch(starts),
        baseline: new FirstMatch(starts),
      };
      for (const [at, number] of rules.entries()) {
        const { policy } = this.#rules[number]!;
        if (policy.isStaged && !withStaged) continue;
        for (const range of ranges[at]!) tiers[policy.tier].add(number, range);
      }
      const isIsolated = this.#isolating.some(({ isStaged }) => withStaged || !isStaged);
      return Array.from(starts, (_, at) => {
        const found = (tier: PolicyTier): number => tiers[tier].found[at]!;
        return this.#outcomeId(found('admin'), found('network'), found('baseline'), isIsolated);
      });
    };
    const enforced = outcomes(false);
    const staged = this.#hasStaged ? outcomes(true) : enforced;
    const acceptingPeer = rules.filter((rule) => this.#accepts(rule));
    const judgements = enforced.map((id, at) => this.#judgement(id, staged[at]!, acceptingPeer, protocol));
    return new PortTable(starts, judgements);
  }

  /** What a rule says of ports; undefined: nothing. @param asWorkload the peer is known by more than its address */
  #rangesOf(rule: number, asWorkload: boolean, ports: readonly PolicyPort[]): readonly ProtocolRange[] | undefined {
    const { ranges, names } = this.#rules[rule]!;
    if (!ranges || names.length === 0 || !asWorkload) return ranges;
    return [...ranges, ...resolve(names, ports)];
  }

  /** What decides, of the first rules of each tier that match (-1: none): a rule by its number, isolation, or nothing. */
  #outcomeId(admin: number, network: number, baseline: number, isIsolated: boolean): string {
    if (admin >= 0 && this.#rules[admin]!.action !== 'pass') return String(admin);
    if (isIsolated) return network >= 0 ? String(network) : ISOLATED;
    return baseline >= 0 && this.#rules[baseline]!.action !== 'pass' ? String(baseline) : UNDECIDED;
  }

  #judgement(id: string, stagedId: string, acceptingPeer: readonly number[], protocol: number): PolicyJudgement {
    const outcome = this.#outcome(id, false);
    const staged = stagedId === id ? outcome : this.#outcome(stagedId, true);
    const nearest = outcome.verdict === 'deny' ? this.#nearestOf(id, acceptingPeer, protocol) : undefined;
    const isTold = staged.verdict !== outcome.verdict;
    const key = `${id} ${isTold ? stagedId : ''} ${nearest ? idOf(nearest) : ''}`;
    let judgement = this.#judgements.get(key);
    if (!judgement) {
      judgement = {
        ...outcome,
        rejects: outcome.verdict === 'deny' && this.#rejects(id),
        ...(nearest && { nearest }),
        ...(isTold && { staged }),
      };
      this.#judgements.set(key, judgement);
      this.#memory.use(8);
    }
    return judgement;
  }

  #outcome(id: string, withStaged: boolean): Outcome {
    const direction = this.#direction;
    if (id === UNDECIDED) return { verdict: 'allow', because: { kind: 'no_rule', direction } };
    if (id === ISOLATED) {
      const policies = this.#isolatingNames(withStaged);
      return {
        verdict: 'deny',
        because: {
          ...{ kind: 'isolated', direction, policies: policies.slice(0, MOST_NAMED) },
          more: Math.max(0, policies.length - MOST_NAMED),
        },
      };
    }
    const rule = Number(id);
    const action = this.#rules[rule]!.action === 'accept' ? 'accept' : 'deny';
    return {
      verdict: action === 'accept' ? 'allow' : 'deny',
      because: { kind: 'rule', action, ...this.#ruleName(rule) },
    };
  }

  #isolatingNames(withStaged: boolean): readonly PolicyName[] {
    return this.#isolating.filter(({ isStaged }) => withStaged || !isStaged).map(({ name }) => name);
  }

  #ruleName(rule: number): RuleName {
    const { policy, index, source } = this.#rules[rule]!;
    return { tier: policy.tier, policy: policy.name, direction: this.#direction, index, ...(source && { source }) };
  }

  /** @param id of an outcome that denies */
  #rejects(id: string): boolean {
    const policies =
      id === ISOLATED ? this.#isolating.filter(({ isStaged }) => !isStaged) : [this.#rules[Number(id)]!.policy];
    return policies.some(({ onDeny }) => (onDeny ?? this.#onDeny) === 'reject');
  }

  /**
   * The rule that is nearest to allowing what is denied. It must not depend on the port, which may not have been read.
   * @param id of the outcome @param acceptingPeer the rules in force that accept something of this peer, in order
   */
  #nearestOf(id: string, acceptingPeer: readonly number[], protocol: number): NearestRule | undefined {
    // What comes later is not asked any more.
    const end = id === ISOLATED ? this.#firstOfBaseline : Number(id);
    const [samePeer = end] = acceptingPeer;
    if (samePeer < end) return this.#nearestRule(samePeer, 'port');
    const [samePort = end] = this.#acceptingOf(protocol);
    return samePort < end ? this.#nearestRule(samePort, 'peer') : undefined;
  }

  /** The rules in force that accept something of a protocol, in order. */
  #acceptingOf(protocol: number): readonly number[] {
    let known = this.#accepting.get(protocol);
    if (known) return known;
    known = [...this.#rules.keys()].filter((rule) => {
      const { ranges, names } = this.#rules[rule]!;
      const isOfProtocol = !ranges || ranges.some((range) => range.protocol === protocol);
      return this.#accepts(rule) && (isOfProtocol || names.some((name) => (name.protocol ?? protocol) === protocol));
    });
    this.#accepting.set(protocol, known);
    return known;
  }

  /** True if it is in force and accepts what it matches. */
  #accepts(rule: number): boolean {
    const { action, policy } = this.#rules[rule]!;
    return action === 'accept' && !policy.isStaged;
  }

  #nearestRule(rule: number, differsIn: NearestRule['differsIn']): NearestRule {
    const { ports, peers } = this.#rules[rule]!;
    return {
      ...{ ...this.#ruleName(rule), differsIn },
      ports: ports?.slice(0, MOST_TOLD),
      peers: peers?.slice(0, MOST_TOLD),
    };
  }
}

const ISOLATED = 'isolated';
const UNDECIDED = 'undecided';
const tiers: readonly PolicyTier[] = ['admin', 'network', 'baseline'];

/** Those that say something about the direction, in the order in which they are asked. */
export function policiesInOrder(policies: readonly Policy[], direction: PolicyDirection): readonly Policy[] {
  const counts = (policy: Policy): boolean => {
    const rules = policy[direction];
    return policy.tier === 'network' ? rules !== undefined : (rules?.length ?? 0) > 0;
  };
  return policies
    .filter(counts)
    .sort(
      (a, b) =>
        tiers.indexOf(a.tier) - tiers.indexOf(b.tier) ||
        a.priority - b.priority ||
        (a.name.name < b.name.name ? -1 : a.name.name > b.name.name ? 1 : 0),
    );
}

/** Equal for selectors that say the same. */
function selectorId(selector: WorkloadSelector): string {
  let id = selectorIds.get(selector);
  if (id === undefined) selectorIds.set(selector, (id = JSON.stringify([selector.namespaces, selector.pods])));
  return id;
}

/** Many rule sets have the same selectors, and the same rules. */
const selectorIds = new WeakMap<WorkloadSelector, string>();
const knownRules: Readonly<Record<PolicyDirection, WeakMap<Policy, readonly Rule[]>>> = {
  ingress: new WeakMap(),
  egress: new WeakMap(),
};

/** @param ports named ports of the workload that has the policy; empty if no rule for ingress asks for them */
function rulesOf(policy: Policy, direction: PolicyDirection, ports: readonly PolicyPort[]): readonly Rule[] {
  if (ports.length > 0) return makeRules(policy, direction, ports);
  let rules = knownRules[direction].get(policy);
  if (!rules) knownRules[direction].set(policy, (rules = makeRules(policy, direction, ports)));
  return rules;
}

function makeRules(policy: Policy, direction: PolicyDirection, ports: readonly PolicyPort[]): readonly Rule[] {
  return policy[direction]!.flatMap((rule, index): readonly Rule[] => {
    if (!rule.isUnreadable) return [ruleOf(policy, index, rule, direction === 'ingress' ? ports : undefined)];
    if (rule.action === 'accept') return [];
    const everything = { peers: undefined, ports: undefined, ranges: undefined, names: [] };
    return [{ policy, index, source: rule.source, action: 'deny', ...everything }];
  });
}

/** @param ports by which named ports are resolved now; undefined: that is for the peers to do */
function ruleOf(policy: Policy, index: number, rule: PolicyRule, ports: readonly PolicyPort[] | undefined): Rule {
  const { action, source, peers, ports: matches } = rule;
  const names = matches?.filter((match) => match.kind === 'name') ?? [];
  const numbers = matches?.filter((match) => match.kind === 'range');
  return {
    ...{ policy, index, source, action, peers, ports: matches },
    ranges: numbers && ports ? [...numbers, ...resolve(names, ports)] : numbers,
    names: ports ? [] : names,
  };
}

/** The ports that have these names. */
function resolve(names: readonly NamedMatch[], ports: readonly PolicyPort[]): readonly ProtocolRange[] {
  return names.flatMap(({ name, protocol }) =>
    ports
      .filter((port) => port.name === name && (protocol ?? port.protocol) === port.protocol)
      .map((port) => ({ protocol: port.protocol, first: port.l4Port, last: port.l4Port })),
  );
}

function idOf({ policy, index, differsIn }: NearestRule): string {
  return `${policy.name} ${index} ${differsIn}`;
}

/** Each once. */
function inOrder(rules: readonly number[]): readonly number[] {
  return [...new Set(rules)].sort((a, b) => a - b);
}
