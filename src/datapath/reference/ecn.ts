/** The ECN field across the tunnel (RFC 6040). native/ecn.h does the same. */
import { fields } from '../../flow/fields.ts';
import { readNumber, writeNumber, type FlowKey } from '../../flow/key.ts';
import { getU16, setU16 } from '../../wire/bytes.ts';
import { ETH_IPV4, ETH_IPV6 } from '../../wire/ethernet.ts';
import { l3Offset } from './offload.ts';

const ECN_MASK = 3;
const NOT_ECT = 0;
const ECT_1 = 1;
const CE = 3;

/**
 * The outer TOS or traffic class for a frame with this key: its ECN field (RFC 6040 §4.1, normal
 * mode), Not-ECT for other protocols than IP, and DSCP 0 or the inner DSCP.
 */
export function outerTos(key: FlowKey, copyDscp: boolean): number {
  const tos = readNumber(key, fields.ip_tos);
  return copyDscp ? tos : tos & ECN_MASK;
}

/**
 * The frame with the ECN field that results from `outer`, the TOS of the datagram that it was in
 * (RFC 6040 §4.2, Figure 4): the same frame, or a copy. `key`, which was extracted from it, changes
 * accordingly. Undefined if it must be dropped, since its sender would not learn of the congestion.
 * Other protocols than IP are left alone.
 */
export function decapsulateEcn(frame: Uint8Array, key: FlowKey, outer: number): Uint8Array | undefined {
  const ecn = outer & ECN_MASK;
  if (ecn !== CE && ecn !== ECT_1) return frame;
  const type = readNumber(key, fields.eth_type);
  if (type !== ETH_IPV4 && type !== ETH_IPV6) return frame;
  const tos = readNumber(key, fields.ip_tos);
  const inner = tos & ECN_MASK;
  if (inner === NOT_ECT) return ecn === CE ? undefined : frame;
  if (inner === CE || inner === ecn) return frame;

  const marked = frame.slice();
  const l3 = l3Offset(frame);
  const newTos = (tos & ~ECN_MASK) | ecn;
  writeNumber(key, fields.ip_tos, newTos);
  if (type === ETH_IPV6) {
    marked[l3 + 1] = (frame[l3 + 1]! & ~(ECN_MASK << 4)) | (ecn << 4);
    return marked;
  }
  marked[l3 + 1] = newTos;
  // RFC 1624
  let sum = (~getU16(frame, l3 + 10) & 0xffff) + (~getU16(frame, l3) & 0xffff) + getU16(marked, l3);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  setU16(marked, l3 + 10, ~sum & 0xffff);
  return marked;
}
