/**
 * Reach: whether packets from somewhere come to a backend if they are sent to its own address. A service joins no
 * networks, so only such backends are candidates.
 *
 * From a network, its route must lead to the network of the backend, which is mostly the same one. A backend in no network
 * is beyond the way outside. From outside, the backend's network must have an outside.
 */
import { OUTSIDE } from '../flow/connection.ts';
import type { Vni } from '../flow/types.ts';
import type { Backend } from './service.ts';
import { networkNameObject, networkObject, type Topology } from './topology.ts';

export interface BackendReach {
  /** The objects that the answers so far depend on. */
  readonly consulted: ReadonlySet<string>;
  has(backend: Backend): boolean;
}

export function reachFrom(topology: Topology, from: Vni | typeof OUTSIDE): BackendReach {
  return from === OUTSIDE ? fromOutside(topology) : fromNetwork(topology, from);
}

function fromNetwork(topology: Topology, vni: Vni): BackendReach {
  const routes = topology.network(vni)?.routes;
  const consulted = new Set([networkObject(vni)]);
  return {
    consulted,
    has: ({ vni: of, address }) => {
      if (!routes) return false;
      const { route, object } = routes.lookup(address);
      consulted.add(object);
      if (of === undefined || route?.kind !== 'network') return of === undefined && route?.kind === 'outside';
      consulted.add(networkNameObject(route.network));
      return topology.networkNamed(route.network)?.vni === of;
    },
  };
}

function fromOutside(topology: Topology): BackendReach {
  const consulted = new Set<string>();
  return {
    consulted,
    has: ({ vni }) => {
      if (vni === undefined) return false;
      consulted.add(networkObject(vni));
      return topology.network(vni)?.outside ?? false;
    },
  };
}
