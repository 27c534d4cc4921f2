/**
 * Drop reasons: the closed list of reasons why a frame can end in weft.
 *
 * The number of a reason is its place here. It crosses into the addon (`native/reason.h`,
 * compared at load), so a new reason goes to the end of its group, and both files change
 * together. `datapath` reasons are counted by the datapath itself; `pipeline` reasons arrive
 * as the argument of a drop action.
 */
import { checkBudgets, type Budget } from './budget.ts';

export const dropReasons = [
  // extract: the frame is not what its headers say
  ['frame_too_short', 'shorter than an Ethernet header'],
  ['frame_too_long', 'longer than the largest frame that weft carries (65,535 bytes)'],
  ['bad_vnet_hdr', 'the virtio_net_hdr asks for what the frame cannot give'],
  ['arp_malformed', 'ARP that is truncated or not Ethernet/IPv4'],
  ['ipv4_malformed', 'IPv4 header length, version or total length does not fit the frame'],
  ['ipv6_malformed', 'IPv6 version or payload length does not fit the frame'],
  ['ipv6_ext_headers', 'IPv6 extension headers are truncated, out of order or more than 8'],
  ['l4_truncated', 'the TCP, UDP, SCTP or ICMP header does not fit the packet'],
  ['nd_malformed', 'neighbor discovery message that is truncated, has bad options or a hop limit under 255'],
  [
    'fragment_malformed',
    'a fragment that no packet can have: empty, beyond 65,535 bytes, or not cut at a multiple of 8 bytes',
  ],
  ['fragment_tiny', 'a first fragment without all its headers, or a later one that begins within them'],
  ['ipv4_mapped', 'an IPv6 packet from or to an IPv4-mapped address (::ffff:a.b.c.d), which must not be sent'],
  [
    'ipv4_checksum',
    'wrong IPv4 header checksum in a packet that has to be routed, answered or fragmented (RFC 1812 §5.2.2)',
  ],
  // tunnel receive
  ['vxlan_malformed', 'VXLAN header truncated or without its I flag (RFC 7348 §5)'],
  ['vxlan_unknown_vni', 'no network here has this VNI'],
  ['vxlan_unknown_vtep', 'the sender is not a known VTEP of this network'],
  ['vxlan_own_address', 'the outer source is this host itself'],
  ['vxlan_source_local', 'the inner source MAC belongs to a port of this host, or to the host itself'],
  ['vxlan_source_elsewhere', 'the inner source MAC belongs to an endpoint that is declared to be on another host'],
  ['vxlan_spoof_gateway', 'from another host, but sent as the gateway'],
  ['vxlan_spoof_arp', 'ARP from another host contradicts what is known about an address'],
  ['vxlan_spoof_nd', 'neighbor discovery from another host contradicts what is known about an address'],
  ['probe_malformed', 'on the VNI of probes, and not a probe, or one of another version of weft'],
  ['probe_unknown_peer', 'a probe of a host that is no peer here, or for which there is no key'],
  ['probe_unauthentic', 'a probe with a wrong key, or for another host'],
  ['probe_replayed', 'a probe that has already arrived, or an older one'],
  ['probe_limit', 'more probes of hosts that start anew than are checked'],
  ['ecn_ce_not_ect', 'congestion was marked on the underlay, but the inner packet cannot carry it (RFC 6040 §4.2)'],
  ['vtep_not_owner', 'another host sends from a MAC or address of no endpoint of its own'],
  // fragments
  ['fragment_overlap', 'fragments of one datagram overlap or end differently, so all of it is dropped (RFC 5722)'],
  ['fragment_duplicate', 'this fragment has already arrived'],
  ['fragment_limit', 'too many fragments from this port wait for the first of their datagram'],
  ['fragment_timeout', 'the first fragment of the datagram did not come'],
  // limits
  ['upcall_queue_full', 'too many undecided flows wait from this port'],
  ['upcall_parked_full', 'eight frames of this undecided flow wait already'],
  ['upcall_rate_limit', 'more new flows than one sender, or all senders behind one port, may start'],
  ['upcall_lost', 'the decision failed, or the port was removed before it was made'],
  ['rate_limit_ingress', 'more than the port’s ingress rate limit lets into the switch'],
  ['rate_limit_egress', 'more than the output port’s egress rate limit lets out of the switch'],
  ['storm_control', 'more flooded frames than one port may send'],
  ['rate_limit_sockets', 'more than one port may send to weft’s own sockets, such as those of DNS'],
  // transmit
  ['port_gone', 'the output port does not exist'],
  ['port_down', 'the interface in the container is down'],
  ['tx_error', 'the kernel refused the frame at a port'],
  ['underlay_mtu', 'larger than the path through the underlay allows (DF is set)'],
  ['underlay_unreachable', 'the kernel has no route to the VTEP'],
  ['underlay_error', 'the kernel refused the datagram to the underlay'],
  ['underlay_missing', 'no underlay address is configured'],
  // ingress
  ['bad_source_mac', 'source MAC is zero or a group address'],
  ['vlan_not_carried', 'VLAN tag on a network that carries none'],
  ['bridge_control', 'STP, LLDP or another 802.1D reserved group address'],
  ['spoof_mac', 'source MAC is not the port’s'],
  ['spoof_ip4', 'IPv4 source is not one of the port’s addresses'],
  ['spoof_ip6', 'IPv6 source is not one of the port’s addresses'],
  ['spoof_arp', 'ARP sender is not the port’s MAC or address'],
  ['spoof_nd', 'neighbor discovery speaks for an address or MAC that is not the port’s'],
  ['rogue_ra', 'router advertisement or redirect from a workload, or from another host'],
  ['rogue_dhcp', 'DHCP server message from a workload, or from another host'],
  ['bad_destination_mac', 'destination MAC is zero'],
  ['mac_control', 'a pause frame or other MAC control frame, which no bridge forwards'],
  ['cisco_control', 'CDP, PVST+ or another protocol that Cisco’s bridges speak with each other'],
  ['ethertype_llc', 'an 802.3 length instead of an EtherType: LLC and SNAP are not supported'],
  ['ethertype_rarp', 'RARP, which could announce an address that nobody has checked'],
  ['ethertype_refused', 'an EtherType other than IPv4, IPv6 and ARP that the port is not allowed to send'],
  // bridge
  ['same_port', 'the destination is the port that it came from'],
  ['split_horizon', 'came from a tunnel, and its destination is behind a tunnel'],
  ['no_destination', 'no port or peer can have its destination'],
  ['port_unknown', 'the input port is in no network'],
  ['vtep_down', 'its destination is behind a VTEP that is down'],
  // route
  ['gateway_elsewhere', 'for the gateway, but from a tunnel: each host has its own'],
  ['gateway_refused', 'for the gateway itself, which answers only ARP, neighbor discovery and ping'],
  ['martian', 'an address that no router forwards: link-local, loopback, multicast or unspecified'],
  ['ttl_exceeded', 'TTL or hop limit was used up'],
  ['no_route', 'no route leads to the destination'],
  ['route_blackhole', 'a blackhole route'],
  ['route_unreachable', 'an unreachable route'],
  ['route_prohibit', 'a prohibit route'],
  ['too_big', 'larger than the path allows, and must not be fragmented'],
  ['neighbor_unresolved', 'nobody answers for the address of the next hop'],
  // outside
  ['connection_gone', 'the connection that it belongs to has ended'],
  ['connection_limit', 'its endpoint, or the switch, has reached its limit of connections'],
  [
    'nat_ports',
    'no port of the transit address is free for this destination, or a connection with the same ends already exists',
  ],
  ['nat_protocol', 'a protocol that cannot be translated: only TCP, UDP and echo can'],
  [
    'no_connection',
    'neither part of a connection nor able to begin one: from outside, and not for a published port, or in the middle of a connection through a service that has ended',
  ],
  ['icmp_unrelated', 'an ICMP error about no live connection, or from somebody who has no part in it'],
  ['vxlan_injection', 'VXLAN from a workload to the underlay'],
  [
    'half_open_limit',
    'begins a TCP connection through a service, and its endpoint has begun too many that were never established',
  ],
  // service
  ['service_unknown', 'to an address or port of the services that none of them has'],
  ['service_no_backend', 'no backend of the service is ready that the client’s network can reach'],
  ['service_local', 'only backends of the same host may be used, and it has none'],
  ['service_full', 'all backends of the service have as many connections as they may'],
  // policy
  ['policy_egress', 'the policies of its source do not allow that it is sent'],
  ['policy_ingress', 'the policies of its destination do not allow that it is received'],
  // hooks
  ['hook_denied', 'a hook denies it'],
  ['hook_failed', 'a hook that denies what it cannot judge has failed, or is not asked at the moment'],
  ['hook_rate_limit', 'more than the rate that a hook has set for its connection, and for others with it, lets pass'],
] as const satisfies readonly (readonly [string, string])[];

export type DropReason = (typeof dropReasons)[number][0];

/** Where the numbers of reasons are packed into bits. */
export function reasonBudgets(reasons: number): Budget[] {
  const widen =
    'Reason in native/reason.h: it is one byte, and 255 means "not dropped"; and the argument of `refuse` (flow/action.ts)';
  return [{ what: 'drop reasons', needed: reasons, most: 255, widen }];
}

checkBudgets(reasonBudgets(dropReasons.length));

const numbers = new Map<string, number>(dropReasons.map(([name], number) => [name, number]));

/** The number by which the addon knows `reason`. */
export function reasonNumber(reason: DropReason): number {
  return numbers.get(reason)!;
}

/** The reason with `number`. @throws RangeError if there is none. */
export function reasonName(number: number): DropReason {
  const entry = dropReasons[number];
  if (!entry) throw new RangeError(`drop reason ${number} does not exist`);
  return entry[0];
}

/** One sentence for an operator. */
export function reasonText(reason: DropReason): string {
  return dropReasons[reasonNumber(reason)]![1];
}
