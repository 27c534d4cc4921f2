/**
 * A proposed state: what would be in force if a change were applied, for any endpoint of the cluster, on whichever host it is.
 * Nothing of it is put into force.
 *
 *   policies    those that are in force, without those that the change replaces or removes, and with those that it has
 *   endpoints   with their labels, ports and addresses as the change has them
 *   namespaces  with their labels as the change has them
 *
 * From these, rule sets are compiled as they are for what is in force (`table/policy/`), when they are first asked for.
 */
import { bytesId } from '../../flow/key.ts';
import { formatIp, linkLocalOf, parseIp, parseMac, type Vni } from '../../flow/types.ts';
import type { ClusterNetworkPolicyResource } from '../../model/kinds/cluster-network-policy.ts';
import { NAMESPACE_NAME, type NamespaceResource } from '../../model/kinds/namespace.ts';
import type { NetworkPolicyResource } from '../../model/kinds/network-policy.ts';
import { DNS_NAMESPACE, dnsIdentity, type KnownWorkload, type Peer, type PolicyLookup } from '../../table/policies.ts';
import {
  policyDirections,
  type Identity,
  type OnDeny,
  type Policy,
  type PolicyDirection,
} from '../../table/policy/policy.ts';
import { RuleSets } from '../../table/policy/rule-sets.ts';
import type { Endpoint } from '../endpoint.ts';
import type { Network } from '../network.ts';
import type { ProposedChange } from '../proposed-change.ts';
import { Identities } from './identities.ts';
import { PolicyIndex } from './policy-index.ts';
import { clusterPolicyValue, networkPolicyValue } from './policy-value.ts';

/** What policies saw of a workload, whatever its namespace says of itself by now. */
export type FormerIdentity = Pick<Identity, 'namespace' | 'labels' | 'ports'>;

/** What is in force without the change. */
export interface PoliciesInForce {
  endpoint(name: string): Endpoint | undefined;
  endpoints(): Iterable<Endpoint>;
  network(name: string): Network | undefined;
  /** The one that an address is in. */
  networkAt(address: Uint8Array): Network | undefined;
  namespace(name: string): NamespaceResource['metadata'] | undefined;
  /** The name of the endpoint that has an address as its own. */
  ownerOf(address: Uint8Array, vni: Vni): string | undefined;
  identityOf(endpoint: Endpoint): Identity;
  selecting(identity: Identity): readonly Policy[];
  onDenyOf(namespace: NamespaceResource['metadata'] | undefined): OnDeny;
}

export class ProposedPolicies implements PolicyLookup {
  readonly #inForce: PoliciesInForce;
  readonly #change: ProposedChange;
  readonly #policies = new PolicyIndex();
  readonly #ruleSets = new RuleSets();
  readonly #identities = new Identities((namespace) => this.#namespace(namespace)?.labels);
  /** By address, and by network and link-local address: the endpoints that the change has. */
  readonly #owners = new Map<string, string>();
  readonly #sets = new Map<string, ReturnType<PolicyLookup['setOf']>>();
  readonly #again = new Map<FormerIdentity, Identity>();
  readonly #setsAgain = new Map<Identity, Map<PolicyDirection, ReturnType<PolicyLookup['setOf']>>>();

  constructor(inForce: PoliciesInForce, change: ProposedChange) {
    this.#inForce = inForce;
    this.#change = change;
    for (const [name, { resource }] of change.planned('NetworkPolicy')) {
      this.#policies.set(`NetworkPolicy/${name}`, networkPolicyValue(resource as NetworkPolicyResource));
    }
    for (const [name, { resource }] of change.planned('ClusterNetworkPolicy')) {
      this.#policies.set(`ClusterNetworkPolicy/${name}`, clusterPolicyValue(resource as ClusterNetworkPolicyResource));
    }
    for (const [name, { addresses, mac, resource }] of change.planned<Endpoint>('Endpoint')) {
      for (const address of addresses) this.#owners.set(bytesId(parseIp(address)), name);
      const vni = this.network(resource.spec.network)?.vni;
      this.#owners.set(`${vni} ${bytesId(linkLocalOf(parseMac(mac)))}`, name);
    }
  }

  endpoint(name: string): Endpoint | undefined {
    const planned = this.#change.planned<Endpoint>('Endpoint').get(name);
    if (planned) return planned;
    return this.#change.isRemoved('Endpoint', name) ? undefined : this.#inForce.endpoint(name);
  }

  *endpoints(): Generator<Endpoint> {
    const planned = this.#change.planned<Endpoint>('Endpoint');
    for (const endpoint of this.#inForce.endpoints()) {
      const { name } = endpoint;
      if (!planned.has(name) && !this.#change.isRemoved('Endpoint', name)) yield endpoint;
    }
    yield* planned.values();
  }

  network(name: string): Network | undefined {
    return this.#change.planned<Network>('Network').get(name) ?? this.#inForce.network(name);
  }

  /** The one that an address is in. */
  networkAt(address: Uint8Array): Network | undefined {
    const text = formatIp(address);
    const planned = [...this.#change.planned<Network>('Network').values()];
    return planned.find(({ pools }) => pools.some((pool) => pool.contains(text))) ?? this.#inForce.networkAt(address);
  }

  identityOf(endpoint: Endpoint): Identity {
    const { namespace } = endpoint.resource.metadata;
    const isChanged =
      this.#change.planned('Namespace').has(namespace) || this.#change.isRemoved('Namespace', namespace);
    return isChanged ? this.#identities.of(endpoint) : this.#inForce.identityOf(endpoint);
  }

  setOf(name: string, direction: PolicyDirection): ReturnType<PolicyLookup['setOf']> {
    const key = `${direction} ${name}`;
    if (!this.#sets.has(key)) {
      const endpoint = this.endpoint(name);
      this.#sets.set(key, endpoint && this.#compile(this.identityOf(endpoint), direction));
    }
    return this.#sets.get(key);
  }

  /** An endpoint that the change does not have has become another one, or is gone. */
  forget(name: string): void {
    for (const direction of policyDirections) this.#sets.delete(`${direction} ${name}`);
  }

  /** What policies see of a workload that has gone, if one like it comes again. */
  identityAgain(former: FormerIdentity): Identity {
    const known = this.#again.get(former);
    if (known) return known;
    const { namespace, labels, ports } = former;
    const namespaceLabels = { ...this.#namespace(namespace)?.labels, [NAMESPACE_NAME]: namespace };
    const again = { namespace, labels, namespaceLabels, ports };
    this.#again.set(former, again);
    return again;
  }

  /** What is in force for it then. @param identity of `identityAgain` */
  setAgain(identity: Identity, direction: PolicyDirection): ReturnType<PolicyLookup['setOf']> {
    const sets = this.#setsAgain.get(identity) ?? new Map<PolicyDirection, ReturnType<PolicyLookup['setOf']>>();
    this.#setsAgain.set(identity, sets);
    if (!sets.has(direction)) sets.set(direction, this.#compile(identity, direction));
    return sets.get(direction);
  }

  peerAt(address: Uint8Array, vni: Vni): Peer {
    const workload = this.#workloadAt(address, vni);
    return { address, identity: workload?.identity, endpoint: workload?.endpoint };
  }

  get dns(): Identity {
    return dnsIdentity(this.#namespace(DNS_NAMESPACE)?.labels);
  }

  #compile(identity: Identity, direction: PolicyDirection): ReturnType<PolicyLookup['setOf']> {
    const kept = this.#inForce.selecting(identity).filter(({ name: policy }) => !this.#isChanged(policy));
    const policies = [...kept, ...this.#policies.selecting(identity)];
    const onDeny = this.#inForce.onDenyOf(this.#namespace(identity.namespace));
    return this.#ruleSets.take(direction, { policies, identity, onDeny })?.rules;
  }

  #isChanged({ kind, name }: Policy['name']): boolean {
    return this.#change.planned(kind).has(name) || this.#change.isRemoved(kind, name);
  }

  #namespace(name: string): NamespaceResource['metadata'] | undefined {
    const planned = this.#change.planned('Namespace').get(name)?.resource as NamespaceResource | undefined;
    if (planned) return planned.metadata;
    return this.#change.isRemoved('Namespace', name) ? undefined : this.#inForce.namespace(name);
  }

  #workloadAt(address: Uint8Array, vni: Vni): KnownWorkload | undefined {
    const id = bytesId(address);
    const planned = this.#owners.get(id) ?? this.#owners.get(`${vni} ${id}`);
    const before = planned === undefined ? this.#inForce.ownerOf(address, vni) : undefined;
    // One that the change has is found by the addresses that it has there.
    const isKept = before !== undefined && !this.#change.planned('Endpoint').has(before);
    const name = planned ?? (isKept ? before : undefined);
    const endpoint = name === undefined ? undefined : this.endpoint(name);
    return endpoint && { endpoint: endpoint.name, identity: this.identityOf(endpoint) };
  }
}
