/**
 * Puts policies into force: keeps track of whom each of them selects on this host, and of who has which address.
 *
 *   a policy changes          the endpoints of this host that it selects, or selected before
 *   an endpoint changes       that one; and as a peer, whoever has been asked about its addresses
 *   a namespace changes       its endpoints of this host; and as peers, all of its endpoints, which nobody goes through one by one
 *
 * A policy that takes the place of another one is never missing in between: what a change does to policies and namespaces is only
 * noted, and comes into force together, before any endpoint of that change is put (`settle`). Until then everything is as it
 * was, whatever else the change does to endpoints. So the port of an endpoint, which opens later than the endpoint is known,
 * never carries anything before its policies are in force.
 *
 * Nothing is kept here of the endpoints of other hosts: whose an address is, the pools of the networks know, and who that is
 * follows from its resource.
 */
import { isDeepStrictEqual } from 'node:util';
import { formatIp, formatMac, linkLocalOf, parseIp, parseMac, sameBytes } from '../../flow/types.ts';
import { addressValue } from '../../model/address.ts';
import type { NamespaceResource } from '../../model/kinds/namespace.ts';
import type { ClashReport } from '../../model/report.ts';
import { readPolicyAnnotations } from '../../model/policy-annotations.ts';
import type { Policies, PolicySubject, KnownWorkload } from '../../table/policies.ts';
import type { Identity, OnDeny, Policy } from '../../table/policy/policy.ts';
import { SelectorIndex } from '../../table/policy/selectors.ts';
import { eachInTurns } from '../../turns.ts';
import { isHere, type Endpoint } from '../endpoint.ts';
import type { Endpoints } from '../endpoints.ts';
import type { Networks } from '../networks.ts';
import { noChange, type ProposedChange } from '../proposed-change.ts';
import { prefixOf } from '../routing.ts';
import { doubtsAbout } from './doubts.ts';
import { Identities } from './identities.ts';
import { PolicyIndex } from './policy-index.ts';
import { ProposedPolicies } from './proposed-policies.ts';
import type { SelectingPolicy } from './policy-value.ts';

export interface PolicyEnforcementEnvironment {
  readonly tables: Pick<
    Policies,
    'setSubject' | 'replacePolicy' | 'workloadsChanged' | 'namespaceChanged' | 'ties' | 'asksIdentities'
  >;
  /** Decides again what depends on what has changed in the tables. */
  readonly enforce: () => void;
  readonly endpoints: () => Pick<Endpoints, 'find' | 'values' | 'withMac'>;
  readonly networks: () => Pick<Networks, 'at' | 'find' | 'withVni' | 'all'>;
  readonly namespace: (name: string) => NamespaceResource['metadata'] | undefined;
}

/** How many endpoints are looked at in one turn of the event loop. */
const TURN_ENDPOINTS = 1024;
/** How many policies of one change are each replaced in all rule sets. If it has more, each endpoint that they select is looked at instead. */
const MOST_REPLACED = 16;

export class PolicyEnforcement {
  readonly #environment: PolicyEnforcementEnvironment;
  readonly #identities: Identities;
  readonly #policies = new PolicyIndex();
  /** The endpoints of this host, and what policies see of them. */
  readonly #here = new Map<string, Identity>();
  /** Those of them that a policy selects. */
  readonly #inForce = new Map<string, Subject>();
  /** What the namespaces say of themselves that are declared. */
  readonly #namespaces = new Map<string, NamespaceResource['metadata']>();
  /** Policies that have come, changed or gone, by id. */
  readonly #changed = new Map<string, SelectingPolicy | undefined>();
  readonly #changedNamespaces = new Set<string>();
  #everywhere: ProposedPolicies | undefined;

  constructor(environment: PolicyEnforcementEnvironment) {
    this.#environment = environment;
    this.#identities = new Identities((namespace) => this.#namespaces.get(namespace)?.labels);
  }

  /** A policy is there, or not any more. It comes into force with whatever else the change has. */
  policyChanged(kind: Policy['name']['kind'], name: string, after: SelectingPolicy | undefined): void {
    this.#changed.set(`${kind}/${name}`, after);
  }

  /** A namespace has other labels or annotations, or is not declared any more. */
  namespaceChanged(name: string): void {
    this.#changedNamespaces.add(name);
  }

  /** Called with each change of an endpoint, and of its state. Undefined: there is none. */
  endpointChanged(before: Endpoint | undefined, after: Endpoint | undefined): void {
    const { name } = (after ?? before)!;
    const isSame = before?.resource === after?.resource && before?.host === after?.host;
    if (!isSame) {
      this.#everywhere?.forget(name);
      if (after && isHere(after)) this.#here.set(name, this.#identities.of(after));
      else this.#here.delete(name);
      this.#follow(name);
    }
    // Nobody is told of whose an address is as long as nobody asks.
    if (this.#isAsked && !(isSame && before?.state === after?.state)) {
      for (const one of [before, after]) if (one) this.#environment.tables.workloadsChanged(addressesOf(one));
    }
    this.#environment.enforce();
  }

  /** The pools know by now that it has its addresses. */
  addressesClaimed(endpoint: Endpoint): void {
    if (!this.#isAsked) return;
    this.#environment.tables.workloadsChanged(addressesOf(endpoint));
    this.#environment.enforce();
  }

  /** Puts into force whatever has changed of policies and namespaces. */
  settle(): void {
    if (this.#changed.size === 0 && this.#changedNamespaces.size === 0) return;
    this.#everywhere = undefined;
    const namespaces = new Set(this.#changedNamespaces);
    const selectors = this.#takeChanged();
    for (const namespace of namespaces) this.#takeNamespace(namespace);
    if (namespaces.size > 0 || !selectors.isEmpty) this.#followConcerned(namespaces, selectors);
    for (const name of namespaces) this.#environment.tables.namespaceChanged(name, this.#namespaces.get(name)?.labels);
    this.#environment.enforce();
  }

  /** Gives those endpoints their policies anew that are in these namespaces, or that one of these selects. */
  #followConcerned(namespaces: ReadonlySet<string>, selectors: SelectorIndex<SelectingPolicy>): void {
    for (const [name, { namespace }] of this.#here) {
      const endpoint = namespaces.has(namespace) ? this.#environment.endpoints().find(name) : undefined;
      if (endpoint) this.#here.set(name, this.#identities.of(endpoint));
    }
    const concerned = new Map<Identity, boolean>();
    for (const [name, identity] of this.#here) {
      let isConcerned = concerned.get(identity);
      if (isConcerned === undefined) {
        isConcerned = namespaces.has(identity.namespace) || selectors.matching(identity).length > 0;
        concerned.set(identity, isConcerned);
      }
      if (isConcerned) this.#follow(name);
    }
  }

  /** @returns those that have changed, as they are and as they were, unless they have been replaced for all whom they select */
  #takeChanged(): SelectorIndex<SelectingPolicy> {
    const selectors = new SelectorIndex<SelectingPolicy>();
    const areFew = this.#changed.size <= MOST_REPLACED;
    for (const [id, after] of this.#changed) {
      const before = this.#policies.set(id, after);
      if (areFew && before && after && this.#replace(before, after)) continue;
      for (const one of [before, after]) if (one) selectors.add(one);
    }
    this.#changed.clear();
    return selectors;
  }

  /** Puts a policy into force in place of one that selects the same. @returns false: that is done for each endpoint */
  #replace(before: SelectingPolicy, after: SelectingPolicy): boolean {
    if (!isDeepStrictEqual(before.selector, after.selector)) return false;
    if (!this.#environment.tables.replacePolicy(before.policy, after.policy)) return false;
    for (const { policies } of this.#inForce.values()) {
      const at = policies.indexOf(before.policy);
      if (at >= 0) policies[at] = after.policy;
    }
    return true;
  }

  #takeNamespace(name: string): void {
    const metadata = this.#environment.namespace(name);
    if (metadata) this.#namespaces.set(name, metadata);
    else this.#namespaces.delete(name);
    this.#identities.forget(name);
    this.#changedNamespaces.delete(name);
  }

  /** What is doubtful about the policies. */
  async doubts(): Promise<ClashReport[]> {
    const { endpoints, networks, tables } = this.#environment;
    const policies = this.#policies.all();
    if (policies.length === 0) return [];
    const identities = new Set<Identity>();
    await eachInTurns(endpoints().values(), TURN_ENDPOINTS, (endpoint) => {
      identities.add(this.#identities.of(endpoint));
    });
    const subnetsOf = networks()
      .all()
      .map(({ name, resource }) => ({ name, subnets: resource.spec.subnets.map(prefixOf) }));
    return doubtsAbout({ policies, identities, networks: subnetsOf, ties: tables.ties() });
  }

  /** Who has an address in a network as its own. @param address 16 bytes */
  workloadAt(address: Uint8Array, vni: number): KnownWorkload | undefined {
    const name = this.#ownerOf(address, vni);
    const endpoint = name === undefined ? undefined : this.#environment.endpoints().find(name);
    return endpoint && { endpoint: endpoint.name, identity: this.#identities.of(endpoint) };
  }

  /** What is in force for the endpoints of all hosts. */
  everywhere(): ProposedPolicies {
    return (this.#everywhere ??= this.propose(noChange));
  }

  /** What would be in force with a change. Nothing of it is. */
  propose(change: ProposedChange): ProposedPolicies {
    const { endpoints, networks } = this.#environment;
    return new ProposedPolicies(
      {
        endpoint: (name) => endpoints().find(name),
        endpoints: () => endpoints().values(),
        network: (name) => networks().find(name),
        networkAt: (address) => networks().at(addressValue(formatIp(address))),
        namespace: (name) => this.#namespaces.get(name),
        ownerOf: (address, vni) => this.#ownerOf(address, vni),
        identityOf: (endpoint) => this.#identities.of(endpoint),
        selecting: (identity) => this.#policies.selecting(identity),
        onDenyOf,
      },
      change,
    );
  }

  /** Somebody asks whose an address is. */
  get #isAsked(): boolean {
    return this.#policies.size > 0 || this.#environment.tables.asksIdentities;
  }

  #ownerOf(address: Uint8Array, vni: number): string | undefined {
    const { networks, endpoints } = this.#environment;
    const mac = macOfLinkLocal(address);
    if (mac === undefined) {
      const text = formatIp(address);
      const value = addressValue(text);
      return networks()
        .at(value)
        ?.pools.find((pool) => pool.contains(text))
        ?.ownerOf(value);
    }
    const network = networks().withVni(vni);
    return network && endpoints().withMac(network.name, mac);
  }

  /** Gives an endpoint the policies that select it now, if it is one of this host. */
  #follow(name: string): void {
    const before = this.#inForce.get(name);
    const identity = this.#here.get(name);
    const subject = identity && this.#subjectOf(identity);
    if (!subject && !before) return;
    if (subject && before && isSameSubject(subject, before)) return;
    if (subject) this.#inForce.set(name, subject);
    else this.#inForce.delete(name);
    this.#environment.tables.setSubject(name, subject);
  }

  /** Undefined if nothing selects it. */
  #subjectOf(identity: Identity): Subject | undefined {
    const policies = this.#policies.selecting(identity);
    if (policies.length === 0) return undefined;
    return { identity, policies, onDeny: onDenyOf(this.#namespaces.get(identity.namespace)) };
  }
}

/** What the tables have. Policies are replaced in it, too. */
type Subject = PolicySubject & { readonly policies: Policy[] };

function onDenyOf(namespace: NamespaceResource['metadata'] | undefined): OnDeny {
  return readPolicyAnnotations(namespace?.annotations).onDeny ?? 'drop';
}

function isSameSubject(a: PolicySubject, b: PolicySubject): boolean {
  return (
    a.identity === b.identity &&
    a.onDeny === b.onDeny &&
    a.policies.length === b.policies.length &&
    a.policies.every((policy, at) => policy === b.policies[at])
  );
}

/** Its own addresses: what it may also send from is nobody's. */
function* addressesOf({ addresses, mac }: Endpoint): Generator<Uint8Array> {
  for (const address of addresses) yield parseIp(address);
  yield linkLocalOf(parseMac(mac));
}

/** The MAC that a link-local address is made of (RFC 4291 appendix A); undefined if it is no such address. */
function macOfLinkLocal(address: Uint8Array): string | undefined {
  if (address[0] !== 0xfe || (address[1]! & 0xc0) !== 0x80) return undefined;
  const [, , , , , , , , a, b, c, , , d, e, f] = address;
  const mac = Uint8Array.of(a! ^ 2, b!, c!, d!, e!, f!);
  return sameBytes(linkLocalOf(mac), address) ? formatMac(mac) : '';
}
