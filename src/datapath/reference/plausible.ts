/** Whether a record from before a crash can be believed. */
import { OUTSIDE, type ConnectionTuples } from '../../flow/connection.ts';
import { isIp4, sameBytes } from '../../flow/types.ts';
import { IP_ICMP, IP_ICMPV6, IP_SCTP, IP_TCP, IP_UDP } from '../../wire/ipv4.ts';

/** True if an undamaged record can contain this. @param kind as stored in the record */
export function isPlausible(kind: number, { places, protocol, original, translated }: ConnectionTuples): boolean {
  const families = [original.source, original.destination, translated.source, translated.destination].map(isIp4);
  if (new Set(families).size !== 1) return false;
  const canBeTranslated = [IP_TCP, IP_UDP, IP_ICMP, IP_ICMPV6].includes(protocol);
  if (kind === 2 || kind === 3) return canBeTranslated && places.some((place) => place !== OUTSIDE);
  const isWithoutPorts = original.sourcePort === 0 && original.destinationPort === 0;
  if (!canBeTranslated && protocol !== IP_SCTP && !isWithoutPorts) return false;
  const isSame =
    sameBytes(original.source, translated.source) &&
    sameBytes(original.destination, translated.destination) &&
    original.sourcePort === translated.sourcePort &&
    original.destinationPort === translated.destinationPort;
  return kind === 1 && isSame;
}
