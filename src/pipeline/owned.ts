/**
 * What a host of the store may send: a host must own the workload that it speaks for. All workloads of all hosts are in the
 * store, so what another host says is not believed but compared.
 *
 * 1. A bridged frame comes from the MAC of an endpoint of that host, and from an address that this endpoint may send from.
 *    A trusted endpoint may send from any address, and if there is one, from any MAC that no other endpoint has.
 * 2. A routed packet has the MAC of the gateway, which is the same on all hosts. It comes from an address that an endpoint of
 *    that host may send from, in any network, or that a trusted one may have made up. Or it came from outside
 *    (`entry.ts`).
 * 3. A host itself asks for neighbors with a MAC of its own, and sends nothing else.
 *
 * So a host that was cut off while its endpoint moved away is refused as soon as the others know of the move.
 */
import { linkLocalOf, parseIp, sameBytes, type Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { FdbEntry } from '../table/fdb.ts';
import { neighborObject } from '../table/neighbor.ts';
import { isHostMac } from '../table/topology.ts';
import { membersObject, sourceObject, sourcesObject } from '../table/workloads.ts';
import { ETH_ARP, ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { ND_NEIGHBOR_SOLICITATION } from '../wire/nd.ts';
import { IP_ICMPV6 } from '../wire/ipv4.ts';
import { drop, type Drop, type Tables } from './stage.ts';
import { text } from './text.ts';

/** A frame of another host. */
export interface Foreign {
  readonly vni: Vni;
  readonly vtep: Uint8Array;
  /** Set if the VTEP is of a host that shares the store: the MAC with which it asks for neighbors. */
  readonly hostMac: Uint8Array | undefined;
  readonly mac: Uint8Array;
  /** What is known about that MAC. */
  readonly known: FdbEntry | undefined;
}

/** Why its source MAC is refused. It is not a local port's, nor a gateway's. */
export function refuseUnownedMac(view: FlowView, { topology }: Tables, foreign: Foreign): Drop | undefined {
  const { vni, vtep, hostMac, mac, known } = foreign;
  if (known?.workload && sameBytes(known.workload.vtep, vtep)) return undefined;
  if (known?.isStatic) return drop('vtep_not_owner', text`${mac} is an endpoint of another host than ${vtep}`);
  if (isHostMac(mac)) {
    if (hostMac && sameBytes(mac, hostMac)) return undefined;
    return drop('vtep_not_owner', text`${mac} is not the MAC of host ${vtep}, but of another host`);
  }
  view.consult(membersObject(vni));
  if (topology.workloads.hasTrusted(vni, vtep)) return undefined;
  return drop('vtep_not_owner', text`${mac} is no endpoint of host ${vtep}, which has no trusted one in this network`);
}

/** Why the address that a bridged frame is sent from is refused. */
export function refuseUnownedAddress(view: FlowView, _tables: Tables, { vtep, mac, known }: Foreign): Drop | undefined {
  const type = view.number('eth_type');
  if (isHostMac(mac)) return isQuestion(view, type, mac) ? undefined : ofHost(vtep, mac);
  const workload = known?.workload;
  // What is behind a trusted endpoint can have any address.
  if (!workload || workload.trust || (type !== ETH_ARP && type !== ETH_IPV4 && type !== ETH_IPV6)) return undefined;
  if (view.isOneOf('ip_src', [...workload.sources, ...unspecified])) return undefined;
  return drop('vtep_not_owner', text`${view.used('ip_src')} is no address of endpoint ${mac} of host ${vtep}`);
}

/** True if an endpoint of the host may send routed packets from that address. */
export function ownsSource(view: FlowView, tables: Tables, { vtep }: Foreign): boolean {
  const { workloads } = tables.topology;
  const trusted = workloads.trustedNetworksOf(vtep);
  if (view.isIn('ip_src', workloads.sourcesOf(vtep))) {
    view.consult(sourceObject(vtep, view.bytes('ip_src')));
    return true;
  }
  view.consultUntilOpen(sourcesObject(vtep));
  for (const vni of trusted) {
    const ip = view.bytes('ip_src');
    view.consultUntilOpen(neighborObject(vni, ip));
    if (!tables.neighbors.lookup(vni, ip)) return true;
  }
  return false;
}

function isQuestion(view: FlowView, type: number, mac: Uint8Array): boolean {
  if (type === ETH_ARP) return view.isOneOf('ip_src', unspecified);
  return (
    type === ETH_IPV6 &&
    view.isOneOf('ip_src', [linkLocalOf(mac)]) &&
    view.number('ip_proto') === IP_ICMPV6 &&
    view.number('l4_src') === ND_NEIGHBOR_SOLICITATION
  );
}

function ofHost(vtep: Uint8Array, mac: Uint8Array): Drop {
  return drop('vtep_not_owner', text`${mac} is the MAC of host ${vtep}, which only asks for neighbors`);
}

/** What a sender has that has no address yet, or that probes for one. */
const unspecified = [parseIp('0.0.0.0'), parseIp('::')];
