/** TCP resets (RFC 9293 §3.10.7.1). */
import { buildEthernet, ETH_IPV4, ETH_IPV6 } from './ethernet.ts';
import { buildIpv4, IP_TCP } from './ipv4.ts';
import { buildIpv6 } from './ipv6.ts';
import { buildTcp, TCP_ACK, TCP_RST } from './l4.ts';

export interface Reset {
  /** 4 or 16 bytes, like `destination`. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  /** Undefined if it acknowledges nothing. */
  readonly acknowledgment: number | undefined;
}

/** A frame with a reset. IPv4 has DF, and so identification 0 (RFC 6864 §4.1). */
export function buildReset(
  macs: { readonly source: Uint8Array; readonly destination: Uint8Array },
  { source, destination, sourcePort, destinationPort, sequence, acknowledgment }: Reset,
): Uint8Array {
  const isV4 = source.length === 4;
  const flags = acknowledgment === undefined ? TCP_RST : TCP_RST | TCP_ACK;
  const ports = { sourcePort, destinationPort };
  const payload = buildTcp(source, destination, { ...ports, sequence, acknowledgment, flags, window: 0 });
  const packet = isV4
    ? buildIpv4({ source, destination, protocol: IP_TCP, dontFragment: true, payload })
    : buildIpv6({ source, destination, nextHeader: IP_TCP, payload });
  return buildEthernet({ ...macs, type: isV4 ? ETH_IPV4 : ETH_IPV6, payload: packet });
}
