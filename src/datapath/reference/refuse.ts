/**
 * Answers refused frames: by a TCP reset (RFC 9293 §3.10.7.1), or by an ICMP error (RFC 792, RFC 4443 §3).
 * native/refuse.h has the rules, and gives the same bytes.
 */
import { extract } from '../../flow/extract.ts';
import { fields, FRAG_LATER, FRAG_NONE } from '../../flow/fields.ts';
import { emptyKey, readBytes, readNumber, type FlowKey } from '../../flow/key.ts';
import type { RefusalAnswer } from '../../flow/refusal.ts';
import { isGroupIp, isGroupMac, isIp4, isZero } from '../../flow/types.ts';
import { ETH_IPV4, ETH_IPV6 } from '../../wire/ethernet.ts';
import { buildIcmpError, isNeverReported } from '../../wire/icmp-error.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP } from '../../wire/ipv4.ts';
import { parseTcp, TCP_ACK, TCP_RST, type Tcp } from '../../wire/l4.ts';
import { buildReset } from '../../wire/reset.ts';
import type { Frame } from './offload.ts';
import { segments } from './segment.ts';

const FIN = 1;
const SYN = 2;

/** Makes the answer to a frame that was extracted to `key`; undefined if no such answer may be given. */
export function answering(answer: RefusalAnswer, frame: Frame, key: FlowKey): (() => Uint8Array) | undefined {
  if (!isFromOneHostToAnother(key)) return undefined;
  if (answer.kind !== 'tcp_reset') {
    const { kind, from } = answer;
    if (!isReported(key) || isIp4(from) !== (readNumber(key, fields.eth_type) === ETH_IPV4)) return undefined;
    // Of a superframe, its first segment is quoted.
    return () => buildIcmpError(kind, segments(frame)[0]!, { mac: readBytes(key, fields.eth_dst), ip: from });
  }
  const segment = segmentOf(frame, key);
  return segment && (segment.flags & TCP_RST) === 0 ? () => resetFor(segment, key) : undefined;
}

/** RFC 1812 §4.3.2.7, RFC 4443 §2.4 e. */
function isFromOneHostToAnother(key: FlowKey): boolean {
  const type = readNumber(key, fields.eth_type);
  if ((type !== ETH_IPV4 && type !== ETH_IPV6) || readNumber(key, fields.vlan_tci) !== 0) return false;
  if (isGroupMac(readBytes(key, fields.eth_src)) || isGroupMac(readBytes(key, fields.eth_dst))) return false;
  return isOneHost(readBytes(key, fields.ip_src)) && !isGroupIp(readBytes(key, fields.ip_dst));
}

/** Not unspecified, loopback, a group or reserved. */
function isOneHost(ip: Uint8Array): boolean {
  if (isIp4(ip)) return ip[12]! !== 0 && ip[12]! !== 127 && ip[12]! < 224;
  return ip[0] !== 0xff && !(isZero(ip.subarray(0, 15)) && ip[15]! <= 1);
}

/** May an ICMP error be sent about it? */
function isReported(key: FlowKey): boolean {
  if (readNumber(key, fields.ip_frag) === FRAG_LATER) return false;
  const protocol = readNumber(key, fields.ip_proto);
  const isIcmp = protocol === IP_ICMP || protocol === IP_ICMPV6;
  return !isIcmp || !isNeverReported(protocol, readNumber(key, fields.l4_src));
}

/** Undefined if it is no TCP segment, or not all of one. */
function segmentOf({ bytes }: Frame, key: FlowKey): Tcp | undefined {
  if (readNumber(key, fields.ip_proto) !== IP_TCP || readNumber(key, fields.ip_frag) !== FRAG_NONE) return undefined;
  const extracted = extract(bytes, emptyKey());
  return extracted.ok && extracted.l4Offset !== 0 ? parseTcp(bytes.subarray(extracted.l4Offset)) : undefined;
}

function resetFor(segment: Tcp, key: FlowKey): Uint8Array {
  const isIp4Packet = readNumber(key, fields.eth_type) === ETH_IPV4;
  const address = (ip: Uint8Array): Uint8Array => ip.subarray(isIp4Packet ? 12 : 0);
  const source = address(readBytes(key, fields.ip_dst));
  const destination = address(readBytes(key, fields.ip_src));
  const { flags, sequence, acknowledgment, payload } = segment;
  const isAcknowledging = (flags & TCP_ACK) !== 0;
  const lengthInSequence = payload.length + (flags & SYN ? 1 : 0) + (flags & FIN ? 1 : 0);
  const macs = { source: readBytes(key, fields.eth_dst), destination: readBytes(key, fields.eth_src) };
  return buildReset(macs, {
    source,
    destination,
    sourcePort: segment.destinationPort,
    destinationPort: segment.sourcePort,
    sequence: isAcknowledging ? acknowledgment : 0,
    acknowledgment: isAcknowledging ? undefined : (sequence + lengthInSequence) >>> 0,
  });
}
