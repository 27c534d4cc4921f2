/**
 * PolicyTests, held against a proposed state (`proposed-policies.ts`).
 *
 *   packets   one for each pair of endpoints that the test is about, and each address family that both have; nobody talks to itself
 *   result    failed if policies say of one of them something else than expected, undecided if there is none
 *
 * A change is refused if a test would fail by it. One that has failed before, of which the change says nothing new, is in nobody's
 * way: so what containers and other hosts have done meanwhile can be mended step by step. What a change does not concern is not
 * judged: if it only has endpoints, these are the packets between all others.
 */
import { WeftError } from '../../error.ts';
import { protocolNumber } from '../../flow/connection.ts';
import { formatIp, isIp4, parseIp, type Vni } from '../../flow/types.ts';
import type { PacketEnd, PacketJudgement, PolicyPacket } from '../../forwarding/packet-judgement.ts';
import { requirementsOf } from '../../model/kinds/label-selector.ts';
import { policyTestEndText, type PolicyTestEnd, type PolicyTestResource } from '../../model/kinds/policy-test.ts';
import { compareNames } from '../../model/name-order.ts';
import type { PolicyPacketReport, PolicyTestReport } from '../../model/policy-report.ts';
import { idOf, nameOf } from '../../model/resource.ts';
import type { PolicyLookup } from '../../table/policies.ts';
import { matchesLabels } from '../../labels.ts';
import { inTurns } from '../../turns.ts';
import type { Endpoint } from '../endpoint.ts';
import { noChange, type ProposedChange } from '../proposed-change.ts';
import type { Declared } from '../reconciler.ts';
import type { ProposedPolicies } from './proposed-policies.ts';

export interface PolicyTestsEnvironment {
  readonly stored: () => Iterable<Declared<PolicyTestResource>>;
  readonly propose: (change: ProposedChange) => ProposedPolicies;
  readonly judge: (packet: PolicyPacket, policies: PolicyLookup) => PacketJudgement;
  /** The address is one of a service: what policies see is a backend. */
  readonly isVip: (address: Uint8Array) => boolean;
}

/** How many packets are judged in one turn of the event loop: takes about a millisecond. */
const JUDGED_PER_TURN = 512;
/** How many packets of one test are told that it fails by. */
const MOST_TOLD = 8;

type Test = Declared<PolicyTestResource>;

/** An end of a test: an endpoint, or an address. */
interface TestEnd {
  /** Of an endpoint. */
  readonly name: string | undefined;
  readonly addresses: readonly PacketEnd[];
}

/** The ends that it is about, or why it cannot be decided. */
type TestEnds = { readonly from: readonly TestEnd[]; readonly to: readonly TestEnd[] } | { readonly why: string };

/** What a change may have to do with: everything, or these endpoints and what is given by addresses. */
type Scope = 'all' | ReadonlySet<string>;

export class PolicyTests {
  readonly #environment: PolicyTestsEnvironment;

  constructor(environment: PolicyTestsEnvironment) {
    this.#environment = environment;
  }

  /** @throws WeftError('conflict') if the change makes a test fail. It names test, packet and what decides */
  async check(change: ProposedChange): Promise<void> {
    const broken: PolicyTestReport[] = [];
    const tests = this.#tests(change);
    if (tests.length === 0) return;
    const proposed = this.#environment.propose(change);
    const before = this.#environment.propose(noChange);
    for (const test of tests) {
      const isNew = change.planned('PolicyTest').has(test.name);
      const scope = isNew ? 'all' : scopeOf(change);
      if (scope !== 'all' && scope.size === 0) continue;
      const report = await this.#run(test, proposed, scope, isNew ? undefined : before);
      if (report.result === 'failed') broken.push(report);
    }
    if (broken.length > 0) throw new WeftError('conflict', brokenText(broken));
  }

  /** All tests, those of the change with those that are stored. */
  async run(change: ProposedChange): Promise<PolicyTestReport[]> {
    const proposed = this.#environment.propose(change);
    const reports: PolicyTestReport[] = [];
    for (const test of this.#tests(change)) reports.push(await this.#run(test, proposed, 'all', undefined));
    return reports;
  }

  #tests(change: ProposedChange): readonly Test[] {
    const planned = change.planned<Test>('PolicyTest');
    const stored = [...this.#environment.stored()].filter(
      ({ name }) => !planned.has(name) && !change.isRemoved('PolicyTest', name),
    );
    return [...stored, ...planned.values()].sort((a, b) => compareNames(a.name, b.name));
  }

  /** @param before if it is given, a packet that failed there does not count */
  async #run(
    { name, resource: { spec } }: Test,
    proposed: ProposedPolicies,
    scope: Scope,
    before: ProposedPolicies | undefined,
  ): Promise<PolicyTestReport> {
    const { judge } = this.#environment;
    const { port, protocol, expect } = spec;
    const { namespace, name: own } = nameOf(name);
    const about = { name: own, namespace, from: policyTestEndText(spec.from), to: policyTestEndText(spec.to) };
    const known = { ...about, port, protocol, expect };
    const ends = this.#endsOf(spec, namespace, proposed);
    if ('why' in ends) return { ...known, result: 'undecided', why: ends.why, packets: 0, wrong: 0, failures: [] };
    let [packets, wrong] = [0, 0];
    const failures: PolicyPacketReport[] = [];
    for await (const [from, to] of inTurns(pairsOf(ends, scope), JUDGED_PER_TURN)) {
      const packet = { from, to, protocol: protocolNumber(protocol), l4Port: port };
      packets++;
      const found = judge(packet, proposed);
      if (found.verdict === expect) continue;
      if (before && isKnown(found, before) && judge(packet, before).verdict === found.verdict) continue;
      wrong++;
      if (failures.length < MOST_TOLD) failures.push(packetReport(found, protocol.toLowerCase(), port));
    }
    const nobody = packets === 0 && { why: 'no two endpoints that it is about have addresses of one family' };
    const result = wrong > 0 ? 'failed' : packets > 0 ? 'passed' : 'undecided';
    return { ...known, result, ...nobody, packets, wrong, failures };
  }

  #endsOf({ from, to }: PolicyTestResource['spec'], namespace: string, proposed: ProposedPolicies): TestEnds {
    const [senders, receivers] = [from, to].map((end) => this.#endOf(end, namespace, proposed));
    if (typeof senders === 'string') return { why: senders };
    if (typeof receivers === 'string') return { why: receivers };
    return { from: senders!, to: receivers! };
  }

  /** Whom it means, or why nobody. */
  #endOf(end: PolicyTestEnd, own: string, proposed: ProposedPolicies): readonly TestEnd[] | string {
    const { namespace = own } = end;
    if (end.endpoint !== undefined) {
      const name = idOf({ name: end.endpoint, namespace });
      const endpoint = proposed.endpoint(name);
      return endpoint ? [endpointEnd(endpoint, proposed)] : `endpoint "${name}" does not exist`;
    }
    if (end.selector) {
      const requirements = requirementsOf(end.selector);
      const found = [...proposed.endpoints()].filter(
        ({ resource: { metadata } }) =>
          metadata.namespace === namespace && matchesLabels(requirements, metadata.labels),
      );
      if (found.length === 0) return `no endpoint of namespace "${namespace}" has such labels`;
      return found.map((endpoint) => endpointEnd(endpoint, proposed));
    }
    const address = parseIp(end.address!);
    if (this.#environment.isVip(address)) return `${end.address} is an address of a service: name its endpoints`;
    const vni = proposed.networkAt(address)?.vni as Vni | undefined;
    return [{ name: undefined, addresses: [{ address, vni }] }];
  }
}

function endpointEnd({ name, addresses, resource }: Endpoint, proposed: ProposedPolicies): TestEnd {
  const vni = proposed.network(resource.spec.network)?.vni as Vni | undefined;
  return { name, addresses: addresses.map((address) => ({ address: parseIp(address), vni })) };
}

/** The ends of all packets that the scope concerns. */
function* pairsOf({ from, to }: Exclude<TestEnds, { why: string }>, scope: Scope): Generator<[PacketEnd, PacketEnd]> {
  const isConcerned = ({ name }: TestEnd): boolean => scope === 'all' || name === undefined || scope.has(name);
  for (const sender of from) {
    for (const receiver of to) {
      if (sender.name !== undefined && sender.name === receiver.name) continue;
      if (!isConcerned(sender) && !isConcerned(receiver)) continue;
      for (const source of sender.addresses) {
        for (const destination of receiver.addresses) {
          if (isIp4(source.address) === isIp4(destination.address)) yield [source, destination];
        }
      }
    }
  }
}

function scopeOf(change: ProposedChange): Scope {
  const all = ['Namespace', 'Network', 'NetworkPolicy', 'ClusterNetworkPolicy'];
  return all.some((kind) => change.names(kind).length > 0) ? 'all' : new Set(change.names('Endpoint'));
}

/** True if its endpoints exist in that state. */
function isKnown({ from, to }: PacketJudgement, state: ProposedPolicies): boolean {
  return [from, to].every(({ endpoint }) => endpoint === undefined || state.endpoint(endpoint) !== undefined);
}

function packetReport(
  { from, to, verdict, because }: PacketJudgement,
  protocol: string,
  port: number,
): PolicyPacketReport {
  const end = ({ address, endpoint }: PacketJudgement['from']): PolicyPacketReport['from'] => ({
    address: formatIp(address),
    ...(endpoint !== undefined && { endpoint }),
  });
  return { from: end(from), to: end(to), protocol, port, verdict, because };
}

function brokenText([first, ...others]: readonly PolicyTestReport[]): string {
  const { namespace, name, expect, failures } = first!;
  const { from, to, protocol, port, verdict, because } = failures[0]!;
  const end = ({ address, endpoint }: PolicyPacketReport['from']): string =>
    endpoint === undefined ? address : `${endpoint} (${address})`;
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  const said = verdict === 'allow' ? 'allowed' : 'denied';
  return `policytest "${idOf({ name, namespace })}"${more} expects ${expect}, but ${protocol} from ${end(from)} to ${end(to)} port ${port} would be ${said}: ${because}; nothing is changed`;
}
