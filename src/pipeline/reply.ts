/** The frames that weft sends of its own accord. */
import { fields, FRAG_LATER } from '../flow/fields.ts';
import { FlowView } from '../flow/view.ts';
import { readNumber, type FlowKey } from '../flow/key.ts';
import { isGroupMac, isIp4, linkLocalOf, type PortNo, type Vni } from '../flow/types.ts';
import { gatewayMac, type Topology } from '../table/topology.ts';
import { buildArpAnnouncement, buildArpRequest } from '../wire/arp.ts';
import { getU16 } from '../wire/bytes.ts';
import { ETH_HEADER_BYTES, ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { buildIcmpError, isIcmpError } from '../wire/icmp-error.ts';
import { IP_ICMP, IP_ICMPV6, IPV4_DF } from '../wire/ipv4.ts';
import { buildNeighborAnnouncement, buildNeighborSolicitation } from '../wire/nd.ts';
import type { Gateway, Reply, Tables } from './stage.ts';

/** @param head the beginning of the frame that is answered */
export function replyFrame(reply: Reply, head: Uint8Array): Uint8Array {
  return reply.kind === 'reply' ? reply.frame : buildIcmpError(reply.error, head, reply.from, reply.mtu);
}

/**
 * What the sender of a frame that an `mtu` action stopped is told: how large its packets may be (RFC 1191,
 * RFC 8201). Undefined if the frame is fragmented instead, or if no ICMP error may be sent for it
 * (RFC 1122 §3.2.2, RFC 1812 §5.2.2, RFC 4443 §2.4).
 */
export function tooBigReply(key: FlowKey, head: Uint8Array, { topology }: Tables, mtu: number): Reply | undefined {
  const gateway = gatewayOf(readNumber(key, fields.in_port) as PortNo, topology);
  const type = readNumber(key, fields.eth_type);
  const isV4 = type === ETH_IPV4;
  if (!gateway || (!isV4 && type !== ETH_IPV6) || readNumber(key, fields.vlan_tci) !== 0) return undefined;
  if (isV4 && ((getU16(head, ETH_HEADER_BYTES + 6) & IPV4_DF) === 0 || !new FlowView(key, head).hasRightIpv4Header())) {
    return undefined;
  }
  if (readNumber(key, fields.ip_frag) === FRAG_LATER || isGroupMac(head)) return undefined;
  const protocol = readNumber(key, fields.ip_proto);
  if ((protocol === IP_ICMP || protocol === IP_ICMPV6) && isIcmpError(protocol, readNumber(key, fields.l4_src))) {
    return undefined;
  }
  const { portNo, mac, addresses } = gateway;
  const ip = addresses.find((address) => isIp4(address) === isV4) ?? (isV4 ? undefined : linkLocalOf(mac));
  return ip && { kind: 'icmp_error', port: portNo, error: 'too_big', from: { mac, ip }, mtu };
}

function gatewayOf(portNo: PortNo, topology: Topology): Gateway | undefined {
  const { outside } = topology;
  if (outside?.portNo === portNo) return { portNo, mac: outside.mac, addresses: outside.transit };
  const port = topology.port(portNo);
  const network = port && topology.network(port.vni);
  return network && { portNo, mac: gatewayMac(network.vni), addresses: network.gateways };
}

/**
 * Asks who has `ip` in the network: everyone, or only `mac`.
 *
 * With ARP, the gateway asks, since its neighbors know it: from this host's own MAC they would learn
 * another gateway. All hosts share the gateway's MAC, so hosts pass its answers on to each other
 * (`route.ts`). With neighbor discovery, this host asks for itself, from its own link-local address, and
 * the answer comes back here.
 */
export function neighborRequest(topology: Topology, vni: Vni, ip: Uint8Array, mac?: Uint8Array): Uint8Array {
  const { hostMac } = topology;
  if (!isIp4(ip)) return buildNeighborSolicitation(hostMac, linkLocalOf(hostMac), ip, mac);
  const gateway = topology.network(vni)?.gateways.find(isIp4);
  const sender = gateway ? { mac: gatewayMac(vni), ip: gateway.subarray(12) } : { mac: hostMac, ip: new Uint8Array(4) };
  return buildArpRequest(sender, ip.subarray(12), mac);
}

/** Announces that `ip` is at `mac` (RFC 5227 §3, RFC 4861 §7.2.6). */
export function announcement(mac: Uint8Array, ip: Uint8Array): Uint8Array {
  return isIp4(ip) ? buildArpAnnouncement(mac, ip.subarray(12)) : buildNeighborAnnouncement(mac, ip);
}
