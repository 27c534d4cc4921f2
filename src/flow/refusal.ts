/**
 * Answers to refused frames: what the action `refuse` sends back to whoever sent a frame that it drops. The
 * numbers are those of `native/action.h` (compared at load).
 */
import type { IcmpErrorName } from '../wire/icmp-error.ts';
import { formatIp, sameBytes } from './types.ts';

/** The ICMP errors that do not depend on the size of the packet. */
type IcmpRefusal = Exclude<IcmpErrorName, 'too_big'>;

export type RefusalAnswer =
  /** A TCP reset from the address that the segment was sent to (RFC 9293 §3.10.7.1). Nothing else is answered by it. */
  | { readonly kind: 'tcp_reset' }
  /** An ICMP error that the router or host with the address `from` sends (16 bytes, of the packet's family). */
  | { readonly kind: IcmpRefusal; readonly from: Uint8Array };

/** The numbers of the answers in an encoded action. */
export const refusalNumbers = {
  tcp_reset: 0,
  net_unreachable: 1,
  host_unreachable: 2,
  port_unreachable: 3,
  prohibited: 4,
  time_exceeded: 5,
} as const satisfies Record<RefusalAnswer['kind'], number>;

const kinds = Object.keys(refusalNumbers) as RefusalAnswer['kind'][];

/** @param from is not used for a TCP reset @throws RangeError if there is no such number */
export function refusalOf(number: number, from: Uint8Array): RefusalAnswer {
  const kind = kinds[number];
  if (!kind) throw new RangeError(`answer ${number} to a refused frame does not exist`);
  return kind === 'tcp_reset' ? { kind } : { kind, from };
}

export function sameRefusal(a: RefusalAnswer, b: RefusalAnswer): boolean {
  if (a.kind === 'tcp_reset' || b.kind === 'tcp_reset') return a.kind === b.kind;
  return a.kind === b.kind && sameBytes(a.from, b.from);
}

/** `tcp_reset`, `net_unreachable,from=10.0.0.1` */
export function formatRefusal(answer: RefusalAnswer): string {
  return answer.kind === 'tcp_reset' ? answer.kind : `${answer.kind},from=${formatIp(answer.from)}`;
}
