/**
 * Tells the sender of a packet that is too large for its next hop how large its packets may be (RFC 1191,
 * RFC 8201). This is asked for a single frame whose size is known. The cached decision stops such packets
 * with an `mtu` action, and each of them causes an upcall.
 */
import { FRAG_LATER } from '../flow/fields.ts';
import { isGroupMac, isIp4, linkLocalOf, type PortNo } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { isNeverReported } from '../wire/icmp-error.ts';
import { IP_ICMP, IP_ICMPV6 } from '../wire/ipv4.ts';
import { gatewayOf, type FrameOrigin, type Gateway } from './origin.ts';
import type { Effect } from './stage.ts';

/**
 * Nothing if the packet is fragmented instead, or if no ICMP error may be sent for it (RFC 1122 §3.2.2, RFC 1812
 * §5.2.2, RFC 4443 §2.4).
 */
export function tooBig(view: FlowView, origin: FrameOrigin, mtu: number): readonly Effect[] {
  const gateway = gatewayOf(origin) ?? gatewayFor(view, origin);
  const type = view.number('eth_type');
  const isV4 = type === ETH_IPV4;
  if (!gateway || (!isV4 && type !== ETH_IPV6) || view.number('vlan_tci') !== 0) return [];
  if (isV4 && (view.mayBeFragmented() || !view.hasRightIpv4Header())) return [];
  if (view.number('ip_frag') === FRAG_LATER || isGroupMac(view.bytes('eth_dst'))) return [];
  const protocol = view.number('ip_proto');
  const isIcmp = protocol === IP_ICMP || protocol === IP_ICMPV6;
  if (isIcmp && isNeverReported(protocol, view.number('l4_src'))) return [];
  const { portNo, mac, addresses } = gateway;
  const ip = addresses.find((address) => isIp4(address) === isV4) ?? (isV4 ? undefined : linkLocalOf(mac));
  const via = origin.kind === 'tunnel' && { via: { vni: origin.network.vni, vtep: origin.vtep } };
  return ip ? [{ kind: 'too_big', port: portNo, ...via, from: { mac, ip }, mtu }] : [];
}

/** What another host has routed here, to go outside, is answered in the name of the gateway there. */
function gatewayFor(view: FlowView, origin: FrameOrigin): Gateway | undefined {
  if (origin.kind !== 'tunnel') return undefined;
  const { gatewayMac: mac, gateways: addresses } = origin.network;
  return { portNo: view.number('in_port') as PortNo, mac, addresses };
}
