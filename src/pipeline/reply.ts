/** The frames that weft itself sends. */
import { isIp4, linkLocalOf, type Vni } from '../flow/types.ts';
import { gatewayMac, type Topology } from '../table/topology.ts';
import { buildArpAnnouncement, buildArpRequest } from '../wire/arp.ts';
import { buildIcmpError } from '../wire/icmp-error.ts';
import { buildNeighborAnnouncement, buildNeighborSolicitation } from '../wire/nd.ts';
import type { Reply } from './stage.ts';

/** @param head the beginning of the frame that is answered */
export function replyFrame(reply: Reply, head: Uint8Array): Uint8Array {
  return reply.kind === 'reply' ? reply.frame : buildIcmpError('too_big', head, reply.from, reply.mtu);
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
