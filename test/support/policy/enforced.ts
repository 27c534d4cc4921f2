/** Policies of a changing world as the cluster puts them into force on a host, without a cluster. */
import { PolicyEnforcement } from '../../../src/cluster/policies/policy-enforcement.ts';
import type { SelectingPolicy } from '../../../src/cluster/policies/policy-value.ts';
import type { Endpoint } from '../../../src/cluster/endpoint.ts';
import { addressValue } from '../../../src/model/address.ts';
import type { Policies } from '../../../src/table/policies.ts';
import type { WorkloadSelector } from '../../../src/table/policy/selectors.ts';
import type { Change, ChangingWorld } from './changing-world.ts';
import { macOf } from './simulated-places.ts';
import { endpointName, policyOf, selectorOf } from './tables.ts';
import type { Manifest, Pod } from './world.ts';

export class EnforcedPolicies {
  readonly #world: ChangingWorld;
  readonly #isHere: (pod: Pod) => boolean;
  readonly #enforcement: PolicyEnforcement;
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #owners = new Map<bigint, string>();

  /** @param isHere the workloads of this host */
  constructor(world: ChangingWorld, tables: Policies, enforce: () => void, isHere: (pod: Pod) => boolean) {
    this.#world = world;
    this.#isHere = isHere;
    const pool = { contains: () => true, ownerOf: (address: bigint) => this.#owners.get(address) };
    const parts = {
      endpoints: () => ({ find: (name: string) => this.#endpoints.get(name), values: () => this.#endpoints.values() }),
      networks: () => ({ at: () => ({ pools: [pool] }) }),
      namespace: (name: string) => world.world.namespaces.find((namespace) => namespace.name === name),
    };
    const environment = { tables, enforce, ...parts } as unknown as ConstructorParameters<typeof PolicyEnforcement>[0];
    this.#enforcement = new PolicyEnforcement(environment);
    tables.workloadsFrom((address, vni) => this.#enforcement.workloadAt(address, vni));
    const { namespaces, pods } = world.world;
    this.apply({
      policies: new Set(world.ids),
      namespaces: new Set(namespaces.map(({ name }) => name)),
      pods: new Set(pods.keys()),
    });
  }

  /** Puts into force what has changed, policies before endpoints. */
  apply({ policies, namespaces, pods }: Change): void {
    for (const id of policies) {
      const [kind, name] = id.split(' ') as [Manifest['kind'], string];
      const manifest = this.#world.policy(id);
      this.#enforcement.policyChanged(kind, name, manifest && selecting(manifest));
    }
    for (const name of namespaces) this.#enforcement.namespaceChanged(name);
    this.#enforcement.settle();
    for (const at of pods) this.#put(this.#world.world.pods[at]!);
  }

  #put(pod: Pod): void {
    const { name, namespace, labels, ports, addresses } = pod;
    const endpoint = {
      ...{ name: endpointName(pod), host: this.#isHere(pod) ? undefined : 'elsewhere', addresses, mac: macOf(pod) },
      resource: { metadata: { name, namespace, labels }, spec: { ports } },
    } as unknown as Endpoint;
    const before = this.#endpoints.get(endpoint.name);
    this.#endpoints.set(endpoint.name, endpoint);
    for (const address of addresses) this.#owners.set(addressValue(address), endpoint.name);
    this.#enforcement.endpointChanged(before, endpoint);
  }
}

/** Another object each time, as a record that is read again. */
function selecting(manifest: Manifest): SelectingPolicy {
  return { selector: subjectOf(manifest), policy: policyOf(manifest) };
}

function subjectOf(manifest: Manifest): WorkloadSelector {
  if (manifest.kind === 'NetworkPolicy') {
    return { namespaces: manifest.metadata.namespace, pods: selectorOf(manifest.spec.podSelector) };
  }
  const { namespaces, pods } = manifest.spec.subject;
  if (!pods) return { namespaces: selectorOf(namespaces!), pods: [] };
  return { namespaces: selectorOf(pods.namespaceSelector), pods: selectorOf(pods.podSelector) };
}
