/** Where packets for an address of a network go: by its route, to whom of the next hops is known. */
import { OUTSIDE, type Place } from '../flow/connection.ts';
import type { Vni } from '../flow/types.ts';
import type { Location } from '../table/fdb.ts';
import type { Tables } from './stage.ts';

export interface NextHopPlace {
  /** The network that they leave by. */
  readonly vni: Vni;
  readonly mac: Uint8Array;
  readonly where: Location;
}

/** Undefined if no next hop is known. */
export function whereIs(
  from: Vni,
  address: Uint8Array,
  { topology, neighbors, fdb }: Pick<Tables, 'topology' | 'neighbors' | 'fdb'>,
): NextHopPlace | undefined {
  const route = topology.network(from)?.routes.lookup(address).route;
  const hops = route?.kind === 'via' ? route.hops : [address];
  const isRouted = route?.kind === 'via' || route?.kind === 'network';
  const vni = (isRouted ? topology.networkNamed(route.network)?.vni : undefined) ?? from;
  for (const hop of hops) {
    const mac = neighbors.resolve(vni, hop);
    const where = mac === undefined || mac === 'failed' ? undefined : fdb.lookup(vni, mac)?.where;
    if (where) return { vni, mac: mac as Uint8Array, where };
  }
  return undefined;
}

/** Where replies to it come in: from a workload of this host, in the network of that. Other hosts route them. */
export function repliesFrom(
  address: Uint8Array,
  to: Vni,
  tables: Pick<Tables, 'topology' | 'neighbors' | 'fdb'>,
): Place {
  if (tables.topology.network(to)?.routes.lookup(address).route?.kind === 'outside') return OUTSIDE;
  const found = whereIs(to, address, tables);
  return found?.where.kind === 'port' ? found.vni : to;
}
