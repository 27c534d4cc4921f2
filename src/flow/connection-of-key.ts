/** What a flow key says about connections: the tuple by which one is found, and whether the packet can belong to it. */
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REPLY, ICMPV6_ECHO_REQUEST } from '../wire/icmp.ts';
import { isIcmpError } from '../wire/icmp-error.ts';
import { hasPorts, IP_ICMP, IP_ICMPV6 } from '../wire/ipv4.ts';
import { turned, type ConnectionKind, type ConnectionTuples, type ProtocolTuple } from './connection.ts';
import { ctState, FRAG_LATER, fields } from './fields.ts';
import { readBytes, readNumber, type FlowKey } from './key.ts';
import { readQuoted } from './quoted.ts';
import { isIp4, sameBytes } from './types.ts';

/** Header of an ICMP error, in front of the packet that it quotes. */
const ICMP_ERROR_BYTES = 8;

/**
 * With ports for TCP, UDP and SCTP, with the identifier for an echo, and for a protocol without ports, only addresses.
 * Undefined for a packet that cannot belong to a connection: no other ICMP message can, nor can what is not IP. Its addresses
 * are views of the key's own bytes.
 */
export function tupleOfKey(key: FlowKey): ProtocolTuple | undefined {
  const type = readNumber(key, fields.eth_type);
  if (type !== ETH_IPV4 && type !== ETH_IPV6) return undefined;
  const protocol = readNumber(key, fields.ip_proto);
  const addresses = { protocol, source: readBytes(key, fields.ip_src), destination: readBytes(key, fields.ip_dst) };
  if (hasPorts(protocol)) {
    const [sourcePort, destinationPort] = [readNumber(key, fields.l4_src), readNumber(key, fields.l4_dst)];
    return { ...addresses, sourcePort, destinationPort };
  }
  if (protocol !== IP_ICMP && protocol !== IP_ICMPV6) return { ...addresses, sourcePort: 0, destinationPort: 0 };
  if (!isEcho(protocol, type === ETH_IPV4, readNumber(key, fields.l4_src))) return undefined;
  const identifier = readNumber(key, fields.icmp_id);
  return { ...addresses, sourcePort: identifier, destinationPort: identifier };
}

/**
 * True if the packet can belong to the connection, in this direction. For an echo, requests are the original direction.
 */
export function isOf({ protocol, original }: ConnectionTuples, reply: boolean, key: FlowKey): boolean {
  const type = readNumber(key, fields.eth_type);
  if ((type !== ETH_IPV4 && type !== ETH_IPV6) || key[fields.ip_proto.offset] !== protocol) return false;
  const v4 = type === ETH_IPV4;
  if (isIp4(original.source) !== v4) return false;
  if (key[fields.ip_frag.offset] === FRAG_LATER) return true;
  const icmpType = readNumber(key, fields.l4_src);
  switch (protocol) {
    case IP_ICMP:
      return v4 && icmpType === (reply ? ICMP_ECHO_REPLY : ICMP_ECHO_REQUEST);
    case IP_ICMPV6:
      return !v4 && icmpType === (reply ? ICMPV6_ECHO_REPLY : ICMPV6_ECHO_REQUEST);
    default:
      return true;
  }
}

/** The quoted packet decides about an ICMP error, so it is never handled together with others of its key. */
export function isErrorKey(key: FlowKey): boolean {
  return isIcmpError(readNumber(key, fields.ip_proto), readNumber(key, fields.l4_src));
}

/**
 * The state of an ICMP error. The packet that it quotes decides alone about one about a connection whose addresses are
 * translated. One about a tracked conversation from whom that packet was for, to its sender, goes the way of its other
 * packets. If it is from somebody else, who may be a router on the way, it is decided about alone.
 * @param icmp the message
 * @param find the connection of a packet with this tuple, in one direction
 */
export function stateOfError(
  key: FlowKey,
  icmp: Uint8Array,
  find: (tuple: ProtocolTuple) => { readonly kind: ConnectionKind; readonly reply: boolean } | undefined,
): number {
  const quoted = readQuoted(icmp.subarray(ICMP_ERROR_BYTES), readNumber(key, fields.eth_type) === ETH_IPV4);
  const found = quoted && find({ protocol: quoted.protocol, ...turned(quoted.tuple) });
  if (!found) return ctState.none;
  if (found.kind !== 'tracked') return ctState.error;
  if (!sameBytes(quoted.tuple.source, readBytes(key, fields.ip_dst))) return ctState.none;
  if (!sameBytes(quoted.tuple.destination, readBytes(key, fields.ip_src))) return ctState.error;
  return found.reply ? ctState.known_reply : ctState.known;
}

function isEcho(protocol: number, v4: boolean, type: number): boolean {
  return v4
    ? protocol === IP_ICMP && (type === ICMP_ECHO_REQUEST || type === ICMP_ECHO_REPLY)
    : protocol === IP_ICMPV6 && (type === ICMPV6_ECHO_REQUEST || type === ICMPV6_ECHO_REPLY);
}
