/**
 * Cuts an IPv4 packet into fragments (RFC 791 §3.2). Each has the header of the packet, those of its
 * options that must be copied, and a piece of the payload; the length of each piece except the last
 * is a multiple of 8. A fragment can be cut into fragments, too. native/fragment.h does the same.
 */
import { fields } from '../../flow/fields.ts';
import { readNumber, type FlowKey } from '../../flow/key.ts';
import { concat, getU16, setU16 } from '../../wire/bytes.ts';
import { checksum } from '../../wire/checksum.ts';
import { ETH_HEADER_BYTES, ETH_IPV4 } from '../../wire/ethernet.ts';
import { IPV4_DF, IPV4_HEADER_BYTES, IPV4_MF } from '../../wire/ipv4.ts';

/** Is it untagged IPv4 without DF? `key` was extracted from the frame. */
export function mayFragment(frame: Uint8Array, key: FlowKey): boolean {
  if (readNumber(key, fields.eth_type) !== ETH_IPV4 || readNumber(key, fields.vlan_tci) !== 0) return false;
  return (getU16(frame, ETH_HEADER_BYTES + 6) & IPV4_DF) === 0;
}

/**
 * @param frame with nothing unfinished; `mayFragment` must be true
 * @param mtu the largest size of each fragment, from the IP header on: 68 bytes or more
 * @returns new frames, or the frame itself if it is small enough
 */
export function fragments(frame: Uint8Array, mtu: number): Uint8Array[] {
  if (frame.length - ETH_HEADER_BYTES <= mtu) return [frame];
  const headerBytes = (frame[ETH_HEADER_BYTES]! & 15) * 4;
  const header = frame.subarray(0, ETH_HEADER_BYTES + headerBytes);
  const payload = frame.subarray(header.length);
  const each = (mtu - headerBytes) & ~7;
  const cut: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += each) {
    const isLast = at + each >= payload.length;
    const piece = payload.subarray(at, at + each);
    const one = concat(at === 0 ? header : copiedOptions(header), piece);
    const flags = getU16(header, ETH_HEADER_BYTES + 6);
    const ip = one.subarray(ETH_HEADER_BYTES);
    setU16(ip, 2, ip.length);
    setU16(ip, 6, (flags + at / 8) | (isLast ? 0 : IPV4_MF));
    setU16(ip, 10, 0);
    setU16(ip, 10, checksum(ip.subarray(0, ip.length - piece.length)));
    cut.push(one);
  }
  return cut;
}

/** The header with only those options that every fragment has. */
function copiedOptions(header: Uint8Array): Uint8Array {
  const [END, NOP, COPIED] = [0, 1, 0x80];
  const first = ETH_HEADER_BYTES + IPV4_HEADER_BYTES;
  const kept: number[] = [];
  for (let at = first; at < header.length && header[at] !== END; ) {
    const isSingle = header[at] === NOP;
    const bytes = isSingle ? 1 : (header[at + 1] ?? 0);
    if (bytes === 0 || (!isSingle && bytes < 2) || at + bytes > header.length) break;
    if ((header[at]! & COPIED) !== 0) kept.push(...header.subarray(at, at + bytes));
    at += bytes;
  }
  while (kept.length % 4 !== 0) kept.push(END);
  const copy = concat(header.subarray(0, first), Uint8Array.from(kept));
  copy[ETH_HEADER_BYTES] = 0x40 | ((IPV4_HEADER_BYTES + kept.length) / 4);
  return copy;
}
