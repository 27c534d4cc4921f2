/**
 * Who may send an ICMP error about a connection: the end that the packet was for, or a router on its way. Any other endpoint has
 * nothing to say about the conversations of others; else it could speak in the name of a service, past all policies.
 */
import type { FlowView } from '../flow/view.ts';
import { homeOf } from './policy.ts';
import { routeTo } from './routed.ts';
import { drop, type Drop, type Entered } from './stage.ts';
import { text } from './text.ts';

/** @param end the address of its end on the side where the error came in */
export function refuseOthersError(view: FlowView, known: Entered, end: Uint8Array): Drop | undefined {
  if (isOfRouter(view, known) || isOfEnd(view, known, end)) return undefined;
  return drop('icmp_unrelated', text`it speaks of a connection of another container`);
}

/** True if it may come from a router on the way of the packet: a gateway, or what is behind a trusted endpoint. */
export function isOfRouter(view: FlowView, { tables, origin }: Entered): boolean {
  if (origin.kind === 'port') return origin.port.trust;
  if (origin.kind !== 'tunnel') return true;
  const { neighbors, fdb, topology } = tables;
  const { vtep } = origin;
  if (!view.isIn('ip_src', topology.workloads.sourcesOf(vtep))) return true;
  const source = view.bytes('ip_src');
  return topology.workloads.trustedNetworksOf(vtep).some((vni) => {
    const mac = neighbors.lookup(vni, source);
    return mac !== undefined && fdb.lookup(vni, mac)?.workload?.trust === true;
  });
}

/** True if it comes from an endpoint that may send from that address. */
function isOfEnd(view: FlowView, { tables, origin }: Entered, end: Uint8Array): boolean {
  const { topology, neighbors, fdb } = tables;
  if (origin.kind === 'port') return topology.maySendFrom(origin.port.portNo, end);
  if (origin.kind !== 'tunnel') return false;
  const { network } = origin;
  const { vni } = homeOf(view, tables, network, routeTo(view, network, end));
  const mac = neighbors.lookup(vni, end);
  const workload = mac && fdb.lookup(vni, mac)?.workload;
  return workload !== undefined && view.isOneOf('ip_src', workload.sources);
}
