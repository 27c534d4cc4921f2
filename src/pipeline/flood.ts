/**
 * Whom a frame is flooded to: the other local ports of its network, and VTEPs that are not down.
 *
 * Behind VTEPs that do not share the store (static peers, the kernel's vxlan) anything can be, so they get every flood. Of the
 * hosts that share it all workloads are known, and each gets only what somebody there needs:
 *
 *   an unknown destination       hosts with a trusted endpoint: only behind one can a MAC be that no endpoint has
 *   who has an address?          hosts with a trusted endpoint, or with one that may carry that address. For the addresses of
 *                                endpoints nobody is asked (`answer.ts`)
 *   an endpoint's announcement   of its own address: hosts with a trusted endpoint, where a MAC may be remembered that nobody
 *                                here knows of. The other hosts know its address from the store
 *   any other announcement       of an address that endpoints carry by turns: all hosts with endpoints of the network, since
 *                                containers remember where it was
 *   who is a router? multicast   hosts with a trusted endpoint
 *   listener reports
 *   any other group              broadcast, multicast, and EtherTypes that a port is allowed: all hosts with endpoints of the
 *                                network, since any of them may listen
 *
 * So neither ARP nor neighbor discovery passes between two hosts of the store whose endpoints have no more than their own
 * addresses. Only what comes from local ports, and weft's own requests, goes to other hosts at all (split horizon).
 */
import { isGroupMac, isIp4, isZero, sameBytes, type Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { neighborObject } from '../table/neighbor.ts';
import { reachableVtepsObject } from '../table/vteps.ts';
import { membersObject } from '../table/workloads.ts';
import { ARP_REQUEST } from '../wire/arp.ts';
import { ETH_ARP, ETH_IPV6 } from '../wire/ethernet.ts';
import { IP_ICMPV6 } from '../wire/ipv4.ts';
import { ND_NEIGHBOR_ADVERTISEMENT, ND_NEIGHBOR_SOLICITATION, ND_ROUTER_SOLICITATION } from '../wire/nd.ts';
import type { Tables } from './stage.ts';

/** Which hosts of the store need a frame. */
type Need =
  | { readonly kind: 'trusted' }
  /** Those that may answer for this address. */
  | { readonly kind: 'carriers'; readonly ip: Uint8Array }
  | { readonly kind: 'members' };

/** The VTEPs that get a flooded frame. @param mac its destination */
export function floodedVteps(view: FlowView, tables: Tables, vni: Vni, mac: Uint8Array): readonly Uint8Array[] {
  const { vteps } = tables.topology;
  view.consult(reachableVtepsObject);
  return vteps.areSharing ? thoseInNeed(view, tables, vni, needOf(view, tables, vni, mac)) : vteps.reachable();
}

/** The VTEPs behind which somebody may answer for an address that no endpoint has. */
export function carriers(view: FlowView, tables: Tables, vni: Vni, ip: Uint8Array): readonly Uint8Array[] {
  view.consult(reachableVtepsObject);
  return thoseInNeed(view, tables, vni, { kind: 'carriers', ip });
}

/** The VTEPs that have to know who has an address now. */
export function listeners(view: FlowView, tables: Tables, vni: Vni, ip: Uint8Array): readonly Uint8Array[] {
  view.consult(reachableVtepsObject);
  return thoseInNeed(view, tables, vni, needOfNews(view, tables, vni, ip));
}

function thoseInNeed(view: FlowView, { topology }: Tables, vni: Vni, need: Need): readonly Uint8Array[] {
  const { vteps, workloads } = topology;
  if (!vteps.areSharing) return vteps.reachable();
  view.consult(membersObject(vni));
  return vteps.reachable().filter((vtep) => {
    if (!vteps.isSharing(vtep)) return true;
    switch (need.kind) {
      case 'trusted':
        return workloads.hasTrusted(vni, vtep);
      case 'carriers':
        return workloads.mayCarry(vni, vtep, need.ip);
      case 'members':
        return workloads.isIn(vni, vtep);
      default:
        return need satisfies never;
    }
  });
}

function needOf(view: FlowView, tables: Tables, vni: Vni, mac: Uint8Array): Need {
  if (!isGroupMac(mac)) return { kind: 'trusted' };
  switch (view.number('eth_type')) {
    case ETH_ARP:
      return needOfArp(view, tables, vni);
    case ETH_IPV6:
      return view.number('ip_proto') === IP_ICMPV6 ? needOfIcmp6(view, tables, vni) : { kind: 'members' };
    default:
      return { kind: 'members' };
  }
}

function needOfArp(view: FlowView, tables: Tables, vni: Vni): Need {
  const [sender, target] = [view.bytes('ip_src'), view.bytes('ip_dst')];
  const isAnnouncement = view.number('ip_proto') !== ARP_REQUEST || sameBytes(sender, target);
  return isAnnouncement ? needOfNews(view, tables, vni, sender) : needOfQuestion(view, tables, vni, target);
}

function needOfIcmp6(view: FlowView, tables: Tables, vni: Vni): Need {
  const type = view.number('l4_src');
  switch (type) {
    case ND_ROUTER_SOLICITATION:
      return { kind: 'trusted' };
    case ND_NEIGHBOR_SOLICITATION:
      return needOfQuestion(view, tables, vni, view.bytes('nd_target'));
    case ND_NEIGHBOR_ADVERTISEMENT:
      return needOfNews(view, tables, vni, view.bytes('nd_target'));
    default:
      return { kind: listenerReports.includes(type) ? 'trusted' : 'members' };
  }
}

/** Also for who probes whether somebody has its own address. */
function needOfQuestion(view: FlowView, tables: Tables, vni: Vni, ip: Uint8Array): Need {
  return isEndpoints(view, tables, vni, ip) ? { kind: 'trusted' } : { kind: 'carriers', ip };
}

function needOfNews(view: FlowView, tables: Tables, vni: Vni, ip: Uint8Array): Need {
  return { kind: isUnspecified(ip) || isEndpoints(view, tables, vni, ip) ? 'trusted' : 'members' };
}

/** True if it is an address of an endpoint, or the gateway's. */
function isEndpoints(view: FlowView, { neighbors }: Tables, vni: Vni, ip: Uint8Array): boolean {
  view.consult(neighborObject(vni, ip));
  return neighbors.lookup(vni, ip) !== undefined;
}

/** Who has no address yet tells nothing. */
function isUnspecified(ip: Uint8Array): boolean {
  return isIp4(ip) && isZero(ip.subarray(12));
}

/** Multicast listener report and done, version 1 and 2 (RFC 2710, RFC 3810). */
const listenerReports: readonly number[] = [131, 132, 143];
