/**
 * Addressee: whether those that bridge has found are those that the packet is for. A bridge delivers by MAC address, and policies
 * judge by IP address: whoever could put any two of them together would reach by MAC whom policies deny. So where policies select
 * the sender, or who gets it, both must mean the same workload, whatever conversation the packet belongs to:
 *
 * 1. A frame for the MAC of a workload has one of the addresses that this one may use.
 * 2. Anything can be behind a trusted one, which may be a router, and behind a MAC that nobody has declared; but not the address
 *    of another workload of the network, nor the gateway's.
 * 3. An unknown MAC is never that of an untrusted port, so its port does not get the flood.
 * 4. A frame for a group has the address of a group. One for a single address gets from a selected sender to nobody, and to a
 *    selected workload only if it is its own.
 *
 * What is routed or translated goes to the address that policies have judged. Other hosts ask the same for their own.
 */
import { isGroupIp, isGroupMac, isIp4, sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { FdbEntry } from '../table/fdb.ts';
import { neighborObject } from '../table/neighbor.ts';
import { anyIngressPoliciesObject, ingressPoliciesObject, policyObject } from '../table/policies.ts';
import { isInPrefix } from '../table/routes.ts';
import type { AccessPort, VirtualNetwork } from '../table/topology.ts';
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import type { Destination } from './hop.ts';
import type { OriginInNetwork } from './origin.ts';
import { drop, locate, next, type Bridged, type StageResult } from './stage.ts';
import { countText, text } from './text.ts';

const together = text`its MAC and its IP address go together`;

/** What the rules need to know about a frame. */
interface Addressed {
  readonly known: Bridged & { readonly origin: OriginInNetwork };
  readonly isSenderSelected: boolean;
  readonly isRouted: boolean;
  readonly mac: Uint8Array;
  /** What is known about that MAC. */
  readonly entry: FdbEntry | undefined;
}

/** Undefined if policies select none of them, nor the sender. */
export function addressee(view: FlowView, known: Bridged): StageResult<Bridged> | undefined {
  const { tables, origin, hop } = known;
  const { destinations, macs } = hop;
  if (origin.kind !== 'port' && origin.kind !== 'tunnel') return undefined;
  const isRouted = macs !== undefined || known.nat !== undefined || known.begins !== undefined;
  if (isRouted && destinations.length === 1) return undefined;
  const isSenderSelected = isSelected(view, known);
  const mac = macs?.destination ?? view.bytes('eth_dst');
  if (destinations.length > 1 && !isSenderSelected) {
    // A flood for a group is not decided again whenever the policies of one of its many receivers change.
    view.consult(anyIngressPoliciesObject);
    if (!tables.policies.selectsAny('ingress') || !isIp(view)) return undefined;
    if (isGroupMac(mac) && isForGroup(view, origin.network)) return next(together, known);
  }
  const concerned = isSenderSelected ? destinations : selectedOf(view, known);
  if (concerned.length === 0 || !isIp(view)) return undefined;
  // A routed frame for several has an unknown MAC.
  const entry = isRouted || isGroupMac(mac) ? undefined : locate(view, tables, origin.network.vni, mac);
  const addressed: Addressed = { known: { ...known, origin }, isSenderSelected, isRouted, mac, entry };
  const others = new Set(concerned.filter((destination) => !isFor(view, addressed, destination)));
  if (others.size === 0) return next(together, known);
  const left = destinations.filter((destination) => !others.has(destination));
  const because = text`${view.bytes('ip_dst')} does not belong to ${mac}`;
  if (left.length === 0) return drop(isSenderSelected ? 'policy_egress' : 'policy_ingress', because);
  return next(text`not to ${countText(others.size, 'port')}: ${because}`, {
    ...known,
    hop: { ...hop, destinations: left },
  });
}

function isSelected(view: FlowView, { tables, origin }: Bridged): boolean {
  if (origin.kind !== 'port') return false;
  view.consult(policyObject(origin.port.name, 'egress'));
  return tables.policies.setOf(origin.port.name, 'egress') !== undefined;
}

/** Those that policies select for ingress. */
function selectedOf(view: FlowView, { tables, hop }: Bridged): readonly Destination[] {
  const { topology, policies } = tables;
  const isMany = hop.destinations.length > 1;
  if (isMany) view.consult(ingressPoliciesObject);
  return hop.destinations.filter((destination) => {
    const port = destination.kind === 'port' ? topology.port(destination.port) : undefined;
    if (!port) return false;
    if (!isMany) view.consult(policyObject(port.name, 'ingress'));
    return policies.setOf(port.name, 'ingress') !== undefined;
  });
}

function isIp(view: FlowView): boolean {
  const type = view.number('eth_type');
  return type === ETH_IPV4 || type === ETH_IPV6;
}

function isFor(view: FlowView, addressed: Addressed, destination: Destination): boolean {
  const { known, isSenderSelected, isRouted, mac, entry } = addressed;
  const { topology } = known.tables;
  const port = destination.kind === 'port' ? topology.port(destination.port) : undefined;
  if (isGroupMac(mac)) {
    if (isForGroup(view, known.origin.network)) return true;
    return !isSenderSelected && port !== undefined && (port.trust || hasAddress(view, known, port));
  }
  if (port && !port.trust) return entry !== undefined && hasAddress(view, known, port);
  const workload = port ? undefined : entry?.workload;
  if (workload && !workload.trust) return view.isOneOf('ip_dst', workload.sources);
  return isRouted || !isElsewhere(view, addressed);
}

/** True if the port may use the destination address. */
function hasAddress(view: FlowView, { tables }: Bridged, { portNo }: AccessPort): boolean {
  return view.isOneOf('ip_dst', tables.topology.sourcesOf(portNo));
}

/** True if the destination address is that of a workload, or of the gateway, and has another MAC. */
function isElsewhere(view: FlowView, { known: { tables, origin }, mac }: Addressed): boolean {
  const { vni } = origin.network;
  const address = view.bytes('ip_dst');
  view.consult(neighborObject(vni, address));
  const at = tables.neighbors.lookup(vni, address);
  return at !== undefined && !sameBytes(at, mac);
}

/** True if the destination address is that of a group, or the broadcast address of a subnet. */
function isForGroup(view: FlowView, { subnets }: VirtualNetwork): boolean {
  const address = view.bytes('ip_dst');
  if (isGroupIp(address)) return true;
  if (!isIp4(address)) return false;
  const bits = new DataView(address.buffer, address.byteOffset).getUint32(12);
  return subnets.some((subnet) => {
    const hostBits = 32 - subnet.length;
    return hostBits > 1 && hostBits < 32 && isInPrefix(subnet, address) && (bits | (-1 << hostBits)) === -1;
  });
}
