/** The reconciler of each kind. A kind with nothing to put into force on a host needs no line here. */
import { kinds } from '../model/kinds/registry.ts';
import { Declarations } from './declarations.ts';
import type { Endpoints } from './endpoints.ts';
import type { Hosts } from './membership/hosts.ts';
import type { Networks } from './networks.ts';
import type { DeclaredServices } from './services/declared-services.ts';
import type { EndpointSlices } from './services/endpoint-slices.ts';
import type { Reconciler } from './reconciler.ts';

export function reconcilers(own: {
  readonly namespaces: Reconciler;
  readonly networks: Networks;
  readonly hosts: Hosts;
  readonly hooks: Reconciler;
  readonly clusterPolicies: Reconciler;
  readonly networkPolicies: Reconciler;
  readonly endpoints: Endpoints;
  readonly services: DeclaredServices;
  readonly slices: EndpointSlices;
  readonly destinationRules: Reconciler;
  readonly virtualServices: Reconciler;
  readonly policyTests: Reconciler;
}): ReadonlyMap<string, Reconciler> {
  const known: Readonly<Record<string, Reconciler>> = {
    Namespace: own.namespaces,
    Network: own.networks,
    Host: own.hosts,
    Hook: own.hooks,
    ClusterNetworkPolicy: own.clusterPolicies,
    NetworkPolicy: own.networkPolicies,
    Endpoint: own.endpoints,
    Service: own.services,
    EndpointSlice: own.slices,
    DestinationRule: own.destinationRules,
    VirtualService: own.virtualServices,
    PolicyTest: own.policyTests,
  };
  return new Map(kinds.map(({ kind }) => [kind, known[kind] ?? new Declarations(kind)]));
}
