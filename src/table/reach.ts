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

export interface Reach {
  /** The objects that the answers so far depend on. */
  readonly consulted: ReadonlySet<string>;
  has(backend: Backend): boolean;
  /** True if all answers would be the same now. */
  isTrue(): boolean;
}

export function reachFrom(topology: Topology, from: Vni | typeof OUTSIDE): Reach {
  return from === OUTSIDE ? fromOutside(topology) : fromNetwork(topology, from);
}

function fromNetwork(topology: Topology, vni: Vni): Reach {
  const routes = topology.network(vni)?.routes;
  const consulted = new Set([networkObject(vni)]);
  /** Which network each name meant. */
  const named = new Map<string, Vni | undefined>();
  return {
    consulted,
    has: ({ vni: of, address }) => {
      if (!routes) return false;
      const { route, object } = routes.lookup(address);
      consulted.add(object);
      if (of === undefined || route?.kind !== 'network') return of === undefined && route?.kind === 'outside';
      consulted.add(networkNameObject(route.network));
      const to = topology.networkNamed(route.network)?.vni;
      named.set(route.network, to);
      return to === of;
    },
    isTrue: () =>
      topology.network(vni)?.routes === routes &&
      [...named].every(([name, to]) => topology.networkNamed(name)?.vni === to),
  };
}

function fromOutside(topology: Topology): Reach {
  const consulted = new Set<string>();
  const open = new Map<Vni, boolean>();
  const hasOutside = (vni: Vni): boolean => topology.network(vni)?.outside ?? false;
  return {
    consulted,
    has: ({ vni }) => {
      if (vni === undefined) return false;
      consulted.add(networkObject(vni));
      open.set(vni, hasOutside(vni));
      return hasOutside(vni);
    },
    isTrue: () => [...open].every(([vni, was]) => hasOutside(vni) === was),
  };
}
