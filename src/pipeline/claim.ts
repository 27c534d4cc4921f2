/**
 * What a frame claims about who has an address: the sender of ARP (RFC 826), the sender of a
 * solicitation with its MAC, and the target of an advertisement (RFC 4861 §7.2).
 */
import { isZero, parseIp, sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { ETH_ARP, ETH_IPV6 } from '../wire/ethernet.ts';
import { IP_ICMPV6 } from '../wire/ipv4.ts';
import { ND_NEIGHBOR_ADVERTISEMENT, ND_NEIGHBOR_SOLICITATION, ND_ROUTER_SOLICITATION } from '../wire/nd.ts';

export interface Claim {
  readonly kind: 'arp' | 'nd';
  /** 16 bytes, IPv4-mapped or IPv6. */
  readonly ip: Uint8Array;
  readonly mac: Uint8Array;
}

/** Undefined if it claims nothing; probes and duplicate address detection do not. */
export function claimOf(view: FlowView): Claim | undefined {
  switch (view.number('eth_type')) {
    case ETH_ARP:
      return claim('arp', view.bytes('ip_src'), view.bytes('nd_lla'));
    case ETH_IPV6:
      return view.number('ip_proto') === IP_ICMPV6 ? claimOfNd(view) : undefined;
    default:
      return undefined;
  }
}

function claimOfNd(view: FlowView): Claim | undefined {
  switch (view.number('l4_src')) {
    case ND_ROUTER_SOLICITATION:
    case ND_NEIGHBOR_SOLICITATION: {
      const mac = view.bytes('nd_lla');
      return isZero(mac) ? undefined : claim('nd', view.bytes('ip_src'), mac);
    }
    case ND_NEIGHBOR_ADVERTISEMENT: {
      const mac = view.bytes('nd_lla');
      return claim('nd', view.bytes('nd_target'), isZero(mac) ? view.bytes('eth_src') : mac);
    }
    default:
      return undefined;
  }
}

function claim(kind: Claim['kind'], ip: Uint8Array, mac: Uint8Array): Claim | undefined {
  return isZero(ip) || sameBytes(ip, unspecified4) ? undefined : { kind, ip, mac };
}

const unspecified4 = parseIp('0.0.0.0');
