/**
 * A rule set: all that policies say about one direction of the workloads that have them, compiled so that deciding takes the
 * same time however many rules there are.
 *
 *   peer ──► what it is   which selectors match its identity (`selectors.ts`), and the innermost address block that it is in
 *                         (`blocks.ts`): peers that are the same in both are matched by the same rules
 *        ──► port table   for such peers and one protocol: the destination ports, cut into ranges that have one judgement
 *                         each (`ports.ts`)
 *
 * Both are made when they are first needed, and kept as long as there is memory for it (`RuleSetMemory`). A set that takes the place of
 * another one may have what that has found out about which rules match whom, and reads only the policies that are not the same.
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
import type { NearestRule, Outcome, PolicyJudgement, RuleName } from './judgement.ts';
import type { Identity, OnDeny, Policy, PolicyDirection, PolicyPort, PolicyTier } from './policy.ts';
import type { BlockNode } from './blocks.ts';
import { PeerRules } from './peer-rules.ts';
import { ALL_PORTS, cutPorts, FirstMatch, PortTable, type PortsThatMatter } from './ports.ts';
import { resolve, rulesOf, type ProtocolRange, type Rule } from './rules.ts';

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
  /** Those that say something about the direction, in the order of `policiesInOrder`. */
  readonly policies: readonly Policy[];
  /** Named ports of the workload. */
  readonly ports: readonly PolicyPort[];
  /** What its namespace says. */
  readonly onDeny: OnDeny;
}

/** Identities that the same selectors match, and that have the same named ports as far as rules ask for them. */
interface IdentityClass {
  /** The rules that match them as workloads, or that match everybody; in order. */
  readonly rules: readonly number[];
  readonly ports: readonly PolicyPort[];
  /** By the innermost block that an address is in, then by protocol. */
  readonly tables: Map<BlockNode | undefined, Map<number, PortTable<PolicyJudgement>>>;
}

interface PolicyRules {
  readonly rules: readonly Rule[];
  /** The number of the first one. */
  readonly first: number;
  /** True if some of them ask for ports of the peer by name. */
  readonly askPortNames: boolean;
}

const noRules: ReadonlyMap<Policy, PolicyRules> = new Map();

export class RuleSet {
  readonly #direction: PolicyDirection;
  readonly #onDeny: OnDeny;
  readonly #ports: readonly PolicyPort[];
  readonly #memory: RuleSetMemory;
  /** Of each policy, in the order in which they are asked. A change does not read all of them. */
  readonly #rules: readonly PolicyRules[];
  readonly #ofPolicy: ReadonlyMap<Policy, PolicyRules>;
  /** How many there are. */
  readonly #count: number;
  /** What is said because NetworkPolicies have rules for this direction, without those that are staged, and with them. */
  readonly #isolated: Outcome | undefined;
  readonly #isolatedIfStaged: Outcome | undefined;
  readonly #isolationRejects: boolean;
  readonly #hasStaged: boolean;
  readonly #asksPortNames: boolean;
  readonly #peers: PeerRules;
  /** Another set has `#peers` now. */
  #isReplaced = false;
  /** The numbers of the first rules of the tiers network and baseline. */
  readonly #firstOfNetwork: number;
  readonly #firstOfBaseline: number;
  /** The first rule in force that accepts something of a protocol. */
  readonly #accepting = new Map<string, number>();
  readonly asksIdentity: boolean;
  #generation = 0;
  readonly #byIdentity = new Map<Identity | undefined, IdentityClass>();
  readonly #classes = new Map<string, IdentityClass>();
  readonly #judgements = new Map<string, PolicyJudgement>();
  /** Whoever judges a peer mostly has asked before which ports matter for it. */
  #lastPeer: RulePeer | undefined;
  #lastProtocol = 0;
  #lastTable: PortTable<PolicyJudgement> | undefined;

  /** @param before the set that this one takes the place of: it can never be asked again */
  constructor({ direction, policies, ports, onDeny }: RuleSetOptions, memory: RuleSetMemory, before?: RuleSet) {
    this.#direction = direction;
    this.#onDeny = onDeny;
    this.#ports = ports;
    this.#memory = memory;
    const like = before && samePorts(before.#ports, ports) ? before : undefined;
    const known = like ? like.#ofPolicy : noRules;
    const ofPolicy = new Map<Policy, PolicyRules>();
    let count = 0;
    for (const policy of policies) {
      const own = numbered(known.get(policy) ?? readOf(rulesOf(policy, direction, ports)), count);
      ofPolicy.set(policy, own);
      count += own.rules.length;
    }
    this.#rules = [...ofPolicy.values()];
    this.#ofPolicy = ofPolicy;
    this.#count = count;
    const isolating = policies.filter(({ tier }) => tier === 'network');
    const enforced = isolating.filter(({ isStaged }) => !isStaged);
    this.#isolated = isolatedBy(enforced, direction);
    this.#isolatedIfStaged = isolatedBy(isolating, direction);
    this.#isolationRejects = enforced.some((policy) => (policy.onDeny ?? onDeny) === 'reject');
    this.#hasStaged = policies.some(({ isStaged }) => isStaged);
    const afterAdmin = policies.find(({ tier }) => tier !== 'admin');
    this.#firstOfNetwork = afterAdmin ? ofPolicy.get(afterAdmin)!.first : count;
    const baseline = policies.find(({ tier }) => tier === 'baseline');
    this.#firstOfBaseline = baseline ? ofPolicy.get(baseline)!.first : count;
    this.#asksPortNames = this.#rules.some(({ askPortNames }) => askPortNames);
    this.#peers = like ? like.#giveUp() : new PeerRules();
    this.#peers.change(rulesBeyond(known, ofPolicy), rulesBeyond(ofPolicy, known));
    this.asksIdentity = this.#peers.hasSelectors || this.#asksPortNames;
  }

  /** Gives away what only one set can have. */
  #giveUp(): PeerRules {
    this.#isReplaced = true;
    return this.#peers;
  }

  portsFor(peer: RulePeer, protocol: number): PortsThatMatter {
    return this.#tableFor(peer, protocol).mattering;
  }

  judge(peer: RulePeer, protocol: number, l4Port: number): PolicyJudgement {
    return this.#tableFor(peer, protocol).at(l4Port);
  }

  #tableFor(peer: RulePeer, protocol: number): PortTable<PolicyJudgement> {
    if (this.#isReplaced) throw new Error('a rule set is asked that another one has taken the place of');
    if (this.#generation !== this.#memory.generation) this.forget();
    if (peer !== this.#lastPeer || protocol !== this.#lastProtocol) {
      this.#lastTable = this.#findTable(peer, protocol);
      this.#lastPeer = peer;
      this.#lastProtocol = protocol;
    }
    return this.#lastTable!;
  }

  #findTable(peer: RulePeer, protocol: number): PortTable<PolicyJudgement> {
    const ofIdentity = this.#classOf(peer.identity);
    const node = this.#peers.blockWith(peer.address);
    let tables = ofIdentity.tables.get(node);
    if (!tables) ofIdentity.tables.set(node, (tables = new Map()));
    let table = tables.get(protocol);
    if (!table) {
      tables.set(protocol, (table = this.#makeTable(ofIdentity, node, protocol)));
      this.#memory.use(4 + table.size);
    }
    return table;
  }

  /** What it has found out, but not which rules match whom. */
  forget(): void {
    this.#generation = this.#memory.generation;
    this.#lastPeer = undefined;
    this.#lastTable = undefined;
    this.#byIdentity.clear();
    this.#classes.clear();
    this.#judgements.clear();
  }

  #classOf(identity: Identity | undefined): IdentityClass {
    const asked = this.asksIdentity ? identity : undefined;
    let known = this.#byIdentity.get(asked);
    if (known) return known;
    const matching = asked ? this.#peers.ofWorkload(asked) : [];
    const ports = asked && this.#asksPortNames ? asked.ports : [];
    const id = `${matching.map(({ number }) => number).join()} ${ports.map(({ name, protocol, l4Port }) => `${name}/${protocol}/${l4Port}`).join()}`;
    known = this.#classes.get(id);
    if (!known) {
      const rules = [...this.#peers.everybody, ...matching.flatMap((selecting) => [...selecting.rules])];
      this.#classes.set(id, (known = { rules: inOrder(this.#numbersOf(rules)), ports, tables: new Map() }));
      this.#memory.use(4 + matching.length + rules.length);
    }
    this.#byIdentity.set(asked, known);
    this.#memory.use(2);
    return known;
  }

  /** @param node the innermost block that the peers are in */
  #makeTable(ofIdentity: IdentityClass, node: BlockNode | undefined, protocol: number): PortTable<PolicyJudgement> {
    const asWorkload = new Set(ofIdentity.rules);
    const rules = node ? inOrder([...ofIdentity.rules, ...this.#numbersOf(node.rules())]) : ofIdentity.rules;
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
        const { policy } = this.#rule(number);
        if (policy.isStaged && !withStaged) continue;
        for (const range of ranges[at]!) tiers[policy.tier].add(number, range);
      }
      const isIsolated = (withStaged ? this.#isolatedIfStaged : this.#isolated) !== undefined;
      return Array.from(starts, (_, at) => {
        const found = (tier: PolicyTier): number => tiers[tier].found[at]!;
        return this.#outcomeId(found('admin'), found('network'), found('baseline'), isIsolated);
      });
    };
    const enforced = outcomes(false);
    const staged = this.#hasStaged ? outcomes(true) : enforced;
    const acceptingPeer = rules.filter((rule) => isAccepting(this.#rule(rule)));
    const judgements = enforced.map((id, at) => this.#judgement(id, staged[at]!, acceptingPeer, protocol));
    return new PortTable(starts, judgements);
  }

  #rule(number: number): Rule {
    let [low, high] = [0, this.#rules.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#rules[middle]!.first <= number) low = middle;
      else high = middle - 1;
    }
    const { rules, first } = this.#rules[low]!;
    return rules[number - first]!;
  }

  #numbersOf(rules: readonly Rule[]): number[] {
    return rules.map(({ policy, place }) => this.#ofPolicy.get(policy)!.first + place);
  }

  /** What a rule says of ports; undefined: nothing. @param asWorkload the peer is known by more than its address */
  #rangesOf(rule: number, asWorkload: boolean, ports: readonly PolicyPort[]): readonly ProtocolRange[] | undefined {
    const { ranges, names } = this.#rule(rule);
    if (!ranges || names.length === 0 || !asWorkload) return ranges;
    return [...ranges, ...resolve(names, ports)];
  }

  /** What decides, of the first rules of each tier that match (-1: none): a rule by its number, isolation, or nothing. */
  #outcomeId(admin: number, network: number, baseline: number, isIsolated: boolean): string {
    if (admin >= 0 && this.#rule(admin).action !== 'pass') return String(admin);
    if (isIsolated) return network >= 0 ? String(network) : ISOLATED;
    return baseline >= 0 && this.#rule(baseline).action !== 'pass' ? String(baseline) : UNDECIDED;
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
    if (id === ISOLATED) return (withStaged ? this.#isolatedIfStaged : this.#isolated)!;
    const rule = Number(id);
    const action = this.#rule(rule).action === 'accept' ? 'accept' : 'deny';
    return {
      verdict: action === 'accept' ? 'allow' : 'deny',
      because: { kind: 'rule', action, ...this.#ruleName(rule) },
    };
  }

  #ruleName(rule: number): RuleName {
    const { policy, index, source } = this.#rule(rule);
    return { tier: policy.tier, policy: policy.name, direction: this.#direction, index, ...(source && { source }) };
  }

  /** @param id of an outcome that denies */
  #rejects(id: string): boolean {
    if (id === ISOLATED) return this.#isolationRejects;
    return (this.#rule(Number(id)).policy.onDeny ?? this.#onDeny) === 'reject';
  }

  /**
   * The rule that is nearest to allowing what is denied. It must not depend on the port, which may not have been read.
   * @param id of the outcome @param acceptingPeer the rules in force that accept something of this peer, in order
   */
  #nearestOf(id: string, acceptingPeer: readonly number[], protocol: number): NearestRule | undefined {
    // What comes later is not asked any more.
    const end = id === ISOLATED ? this.#firstOfBaseline : Number(id);
    // Those who isolate it have rules of their own, which say more about it than one of the tier admin.
    const starts = id === ISOLATED ? [this.#firstOfNetwork, 0] : [0];
    for (const from of starts) {
      const samePeer = acceptingPeer.find((rule) => rule >= from) ?? end;
      if (samePeer < end) return this.#nearestRule(samePeer, 'port');
    }
    for (const from of starts) {
      const samePort = this.#firstAccepting(protocol, from);
      if (samePort < end) return this.#nearestRule(samePort, 'peer');
    }
    return undefined;
  }

  /**
   * The first rule in force that accepts something of a protocol; if there is none, behind all rules.
   * @param from where a tier begins
   */
  #firstAccepting(protocol: number, from: number): number {
    const key = `${protocol} ${from}`;
    let known = this.#accepting.get(key);
    if (known !== undefined) return known;
    known = this.#findAccepting(protocol, from) ?? this.#count;
    this.#accepting.set(key, known);
    return known;
  }

  #findAccepting(protocol: number, from: number): number | undefined {
    for (const { rules, first } of this.#rules) {
      if (first < from) continue;
      const at = rules.findIndex((rule) => isAccepting(rule) && isOfProtocol(rule, protocol));
      if (at >= 0) return first + at;
    }
    return undefined;
  }

  #nearestRule(rule: number, differsIn: NearestRule['differsIn']): NearestRule {
    const { ports, peers } = this.#rule(rule);
    return {
      ...{ ...this.#ruleName(rule), differsIn },
      ports: ports?.slice(0, MOST_TOLD),
      peers: peers?.slice(0, MOST_TOLD),
    };
  }
}

function readOf(rules: readonly Rule[]): PolicyRules {
  return { rules, first: 0, askPortNames: rules.some(({ names }) => names.length > 0) };
}

function numbered(rules: PolicyRules, first: number): PolicyRules {
  return rules.first === first ? rules : { ...rules, first };
}

/** True if it is in force and accepts what it matches. */
function isAccepting({ action, policy }: Rule): boolean {
  return action === 'accept' && !policy.isStaged;
}

function isOfProtocol({ ranges, names }: Rule, protocol: number): boolean {
  if (!ranges || ranges.some((range) => range.protocol === protocol)) return true;
  return names.some((name) => (name.protocol ?? protocol) === protocol);
}

const ISOLATED = 'isolated';
const UNDECIDED = 'undecided';
const tiers: readonly PolicyTier[] = ['admin', 'network', 'baseline'];

/** Those that say something about the direction, in the order in which they are asked. */
export function policiesInOrder(policies: readonly Policy[], direction: PolicyDirection): Policy[] {
  return policies.filter((policy) => counts(policy, direction)).sort(compareOrder);
}

/** True if it says something about the direction. */
export function counts(policy: Policy, direction: PolicyDirection): boolean {
  const rules = policy[direction];
  return policy.tier === 'network' ? rules !== undefined : (rules?.length ?? 0) > 0;
}

function compareOrder(a: Policy, b: Policy): number {
  if (a.tier !== b.tier) return tiers.indexOf(a.tier) - tiers.indexOf(b.tier);
  if (a.priority !== b.priority) return a.priority - b.priority;
  return a.name.name < b.name.name ? -1 : a.name.name > b.name.name ? 1 : 0;
}

/** Undefined: no policy isolates. */
function isolatedBy(policies: readonly Policy[], direction: PolicyDirection): Outcome | undefined {
  if (policies.length === 0) return undefined;
  const names = policies.slice(0, MOST_NAMED).map(({ name }) => name);
  const more = policies.length - names.length;
  return { verdict: 'deny', because: { kind: 'isolated', direction, policies: names, more } };
}

function samePorts(a: readonly PolicyPort[], b: readonly PolicyPort[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Rules of policies that only one of both has. */
function rulesBeyond(all: ReadonlyMap<Policy, PolicyRules>, others: ReadonlyMap<Policy, unknown>): readonly Rule[] {
  const beyond: Rule[] = [];
  for (const [policy, { rules }] of all) if (!others.has(policy)) for (const rule of rules) beyond.push(rule);
  return beyond;
}

function idOf({ policy, index, differsIn }: NearestRule): string {
  return `${policy.name} ${index} ${differsIn}`;
}

/** Each once. */
function inOrder(rules: readonly number[]): readonly number[] {
  return [...new Set(rules)].sort((a, b) => a - b);
}
