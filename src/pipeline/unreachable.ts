/** Which ICMP errors count against a backend: those that say that a packet to it does not arrive. */
import { fields } from '../flow/fields.ts';
import { readNumber, type FlowKey } from '../flow/key.ts';
import { isUnreachable } from '../wire/icmp-error.ts';

/** @param key of a frame that is an ICMP error */
export function saysUnreachable(key: FlowKey): boolean {
  return isUnreachable(
    readNumber(key, fields.ip_proto),
    readNumber(key, fields.l4_src),
    readNumber(key, fields.l4_dst),
  );
}
