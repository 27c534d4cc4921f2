/**
 * Unfinished checksums of frames from the underlay.
 *
 * A sender whose network card computes checksums leaves the pseudo header's sum
 * in the checksum field. On a wire the card finishes it; where the underlay is
 * virtual (a veth to another namespace of the same machine) the frame arrives
 * as it is, and its receiver would throw it away. native/checksum.h has the same.
 */
import { FRAG_NONE, fields } from '../flow/fields.ts';
import { readNumber, type FlowKey } from '../flow/key.ts';
import { getU16, setU16 } from '../wire/bytes.ts';
import { checksum, pseudoSum } from '../wire/checksum.ts';
import { ETH_HEADER_BYTES, ETH_IPV4, ETH_IPV6, VLAN_TAG_BYTES } from '../wire/ethernet.ts';
import { IP_TCP, IP_UDP } from '../wire/ipv4.ts';
import { IPV6_HEADER_BYTES } from '../wire/ipv6.ts';

/**
 * The frame (cut to its L3 length, extracted to `key`) itself, or a copy with its
 * TCP or UDP checksum finished if it holds the pseudo header's sum. A finished
 * one has that value once in 65,536 times, and comes out the same.
 */
export function finishChecksum(frame: Uint8Array, key: FlowKey): Uint8Array {
  const proto = key[fields.ip_proto.offset]!;
  if ((proto !== IP_TCP && proto !== IP_UDP) || key[fields.ip_frag.offset] !== FRAG_NONE) return frame;
  const type = readNumber(key, fields.eth_type);
  const l3 = ETH_HEADER_BYTES + (key[fields.vlan_tci.offset] === 0 ? 0 : VLAN_TAG_BYTES);
  if (type !== ETH_IPV4 && !(type === ETH_IPV6 && frame[l3 + 6] === proto)) return frame;
  const l4 = l3 + (type === ETH_IPV4 ? (frame[l3]! & 15) * 4 : IPV6_HEADER_BYTES);
  const segment = frame.subarray(l4);
  const field = proto === IP_TCP ? 16 : 6;

  const [at, size] = type === ETH_IPV4 ? [l3 + 12, 4] : [l3 + 8, 16];
  const source = frame.subarray(at, at + size);
  const destination = frame.subarray(at + size, at + 2 * size);
  if (pseudoSum(source, destination, proto, segment.length) !== getU16(segment, field)) return frame;
  const sum = checksum(segment);
  const finished = frame.slice();
  setU16(finished, l4 + field, sum === 0 && proto === IP_UDP ? 0xffff : sum);
  return finished;
}
