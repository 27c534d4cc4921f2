/**
 * Messages that only a router or a DHCP server sends: whoever is believed here can redirect the traffic of
 * a whole network.
 */
import type { FlowView } from '../flow/view.ts';
import { ETH_IPV4 } from '../wire/ethernet.ts';
import { ICMP_ROUTER_ADVERTISEMENT } from '../wire/icmp.ts';
import { ICMP_REDIRECT } from '../wire/icmp-error.ts';
import { IP_ICMP, IP_ICMPV6, IP_UDP } from '../wire/ipv4.ts';
import { ND_REDIRECT, ND_ROUTER_ADVERTISEMENT } from '../wire/nd.ts';
import { drop, type Drop } from './stage.ts';
import { text } from './text.ts';

/** UDP ports of clients (RFC 2131 §4.1, RFC 8415 §7.2). */
const [dhcp, dhcp6] = [clientAt(68), clientAt(546)];

/** Why this IP packet is refused: it is a message of a DHCP server or a router. */
export function refuseServer(view: FlowView): Drop | undefined {
  const isV4 = view.number('eth_type') === ETH_IPV4;
  const protocol = view.number('ip_proto');
  if (protocol === IP_UDP) {
    const client = isV4 ? dhcp : dhcp6;
    // All ports but a few share cached flows: a sender that counts through them makes no flow for each.
    if (!view.isOneOf('l4_dst', client.values)) return undefined;
    return drop('rogue_dhcp', text`a ${isV4 ? 'DHCP' : 'DHCPv6'} server message (UDP to port ${client.l4Port})`);
  }
  if (protocol !== (isV4 ? IP_ICMP : IP_ICMPV6)) return undefined;
  const type = view.number('l4_src');
  const [advertisement, redirect] = isV4
    ? [ICMP_ROUTER_ADVERTISEMENT, ICMP_REDIRECT]
    : [ND_ROUTER_ADVERTISEMENT, ND_REDIRECT];
  if (type === advertisement) return drop('rogue_ra', text`a router advertisement`);
  return type === redirect ? drop('rogue_ra', text`an ${isV4 ? 'ICMP' : 'ICMPv6'} redirect`) : undefined;
}

/** A port, and in the form of the field in the flow key. */
function clientAt(l4Port: number) {
  return { l4Port, values: [Uint8Array.of(l4Port >>> 8, l4Port)] };
}
