/** Frames for tests: those of the library, and as they are before a network card has computed their checksums. */
import { setU16 } from '../../src/wire/bytes.ts';
import { pseudoSum } from '../../src/wire/checksum.ts';
import { ETH_IPV4, ETH_IPV6, parseEthernet } from '../../src/wire/ethernet.ts';
import { IP_TCP, IP_UDP, parseIpv4 } from '../../src/wire/ipv4.ts';
import { parseIpv6 } from '../../src/wire/ipv6.ts';

export * from '../../src/frames.ts';

/**
 * TCP or UDP as it leaves a host whose network card computes checksums: the checksum field holds
 * the sum of the pseudo header. Any other frame is returned unchanged.
 */
export function unfinished(frame: Uint8Array): Uint8Array {
  const ethernetFrame = parseEthernet(frame);
  if (!ethernetFrame || ethernetFrame.vlan) return frame;
  const packet = ethernetFrame.type === ETH_IPV4 ? parseIpv4(ethernetFrame.payload) : undefined;
  const packet6 = ethernetFrame.type === ETH_IPV6 ? parseIpv6(ethernetFrame.payload) : undefined;
  const protocol = packet?.protocol ?? packet6?.nextHeader;
  const { source, destination, payload } = packet ?? packet6 ?? {};
  if (!source || !destination || !payload || (protocol !== IP_TCP && protocol !== IP_UDP)) return frame;
  const field = payload.byteOffset - frame.byteOffset + (protocol === IP_TCP ? 16 : 6);
  if (field + 2 > frame.length) return frame;
  const copy = frame.slice();
  setU16(copy, field, pseudoSum(source, destination, protocol, payload.length));
  return copy;
}
