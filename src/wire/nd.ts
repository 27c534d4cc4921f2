/** Neighbor discovery (RFC 4861): solicitations, advertisements and their options. */
import { concat, getU32, setU32 } from './bytes.ts';
import { buildEthernet, ETH_IPV6 } from './ethernet.ts';
import { buildIcmp6, parseIcmp } from './icmp.ts';
import { IP_ICMPV6 } from './ipv4.ts';
import { buildIpv6 } from './ipv6.ts';

export const ND_ROUTER_SOLICITATION = 133;
export const ND_ROUTER_ADVERTISEMENT = 134;
export const ND_NEIGHBOR_SOLICITATION = 135;
export const ND_NEIGHBOR_ADVERTISEMENT = 136;
export const ND_REDIRECT = 137;
/** Every ND message has this hop limit; a router would have decremented it. */
export const ND_HOP_LIMIT = 255;

export const ND_OPTION_SOURCE_LLA = 1;
export const ND_OPTION_TARGET_LLA = 2;

const NA_ROUTER = 0x80000000;
const NA_SOLICITED = 0x40000000;
const NA_OVERRIDE = 0x20000000;

export interface NdOption {
  readonly type: number;
  /** Everything after type and length: 2 bytes less than a multiple of 8. */
  readonly data: Uint8Array;
}

export interface Neighbor {
  /** ND_NEIGHBOR_SOLICITATION or ND_NEIGHBOR_ADVERTISEMENT. */
  readonly type: number;
  /** NA_… flags; zero in solicitations. */
  readonly flags: number;
  readonly target: Uint8Array;
  readonly options: readonly NdOption[];
}

/** Undefined when `bytes` is not a whole number of well-formed options. The results are views of `bytes`. */
export function parseNdOptions(bytes: Uint8Array): NdOption[] | undefined {
  const options: NdOption[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = (bytes[at + 1] ?? 0) * 8;
    if (size === 0 || at + size > bytes.length) return undefined;
    options.push({ type: bytes[at]!, data: bytes.subarray(at + 2, at + size) });
    at += size;
  }
  return options;
}

/** Undefined when `message` (ICMPv6, from its type on) is not a well-formed NS or NA. The result is a view of it. */
export function parseNeighbor(message: Uint8Array): Neighbor | undefined {
  const icmp = parseIcmp(message);
  if (!icmp || icmp.code !== 0 || icmp.body.length < 20) return undefined;
  if (icmp.type !== ND_NEIGHBOR_SOLICITATION && icmp.type !== ND_NEIGHBOR_ADVERTISEMENT) return undefined;
  const options = parseNdOptions(icmp.body.subarray(20));
  return options && { type: icmp.type, flags: getU32(icmp.body, 0), target: icmp.body.subarray(4, 20), options };
}

/** The body of an NS or NA, for `buildIcmp6`. */
export function buildNeighborBody(neighbor: Pick<Neighbor, 'flags' | 'target' | 'options'>): Uint8Array {
  const flags = new Uint8Array(4);
  setU32(flags, 0, neighbor.flags);
  const options = neighbor.options.map(({ type, data }) =>
    concat(Uint8Array.of(type, Math.ceil((data.length + 2) / 8)), data),
  );
  return concat(flags, neighbor.target, ...options);
}

export interface NeighborReply {
  /** The MAC of the address that was asked for. */
  readonly mac: Uint8Array;
  readonly target: Uint8Array;
  /** Who asked; `::` for duplicate address detection. */
  readonly askerMac: Uint8Array;
  readonly askerIp: Uint8Array;
  /** Is it a gateway's address? Hosts forget a router whose advertisements lack the flag (RFC 4861 §7.2.5). */
  readonly isRouter?: boolean;
}

const allNodes = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

/**
 * The whole frame of an advertisement that answers a solicitation: to all
 * nodes and unsolicited when the asker has no address yet (RFC 4861 §7.2.4).
 */
export function buildNeighborReply(reply: NeighborReply): Uint8Array {
  const unnamed = reply.askerIp.every((byte) => byte === 0);
  const destination = unnamed ? allNodes : reply.askerIp;
  const body = buildNeighborBody({
    flags: NA_OVERRIDE + (unnamed ? 0 : NA_SOLICITED) + (reply.isRouter ? NA_ROUTER : 0),
    target: reply.target,
    options: [{ type: ND_OPTION_TARGET_LLA, data: reply.mac }],
  });
  const message = buildIcmp6(reply.target, destination, { type: ND_NEIGHBOR_ADVERTISEMENT, code: 0, body });
  const payload = buildIpv6({
    source: reply.target,
    destination,
    nextHeader: IP_ICMPV6,
    hopLimit: ND_HOP_LIMIT,
    payload: message,
  });
  const groupMac = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
  return buildEthernet({
    destination: unnamed ? groupMac : reply.askerMac,
    source: reply.mac,
    type: ETH_IPV6,
    payload,
  });
}

/** The whole frame with which `mac` tells all nodes that it has `ip`, 16 bytes (RFC 4861 §7.2.6). */
export function buildNeighborAnnouncement(mac: Uint8Array, ip: Uint8Array): Uint8Array {
  return buildNeighborReply({ mac, target: ip, askerMac: new Uint8Array(6), askerIp: new Uint8Array(16) });
}

/**
 * The whole frame with which `mac`, from address `source`, asks who has `target`; 16 bytes each (RFC 4861 §7.2.2).
 *
 * @param to ask only the neighbor with this MAC (RFC 4861 §7.3.3); all that may have `target` if it is not given
 */
export function buildNeighborSolicitation(
  mac: Uint8Array,
  source: Uint8Array,
  target: Uint8Array,
  to?: Uint8Array,
): Uint8Array {
  const last = target.subarray(13);
  const group = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ...last);
  const body = buildNeighborBody({ flags: 0, target, options: [{ type: ND_OPTION_SOURCE_LLA, data: mac }] });
  const asked = to ? target : group;
  const message = buildIcmp6(source, asked, { type: ND_NEIGHBOR_SOLICITATION, code: 0, body });
  const payload = buildIpv6({
    source,
    destination: asked,
    nextHeader: IP_ICMPV6,
    hopLimit: ND_HOP_LIMIT,
    payload: message,
  });
  const destination = to ?? Uint8Array.of(0x33, 0x33, 0xff, ...last);
  return buildEthernet({ destination, source: mac, type: ETH_IPV6, payload });
}
