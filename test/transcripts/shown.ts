/**
 * Frames as the documents show them: the summary that `weft capture` prints, followed by what `show`
 * asks for.
 *
 *   macs       the addresses in the Ethernet header
 *   ttl        TTL or hop limit
 *   tos        DSCP and ECN
 *   size       bytes from the IP header on, and what the header says about fragments
 *   mss        the MSS that a SYN announces
 *   quote      what an ICMP error quotes
 *   underlay   not for frames: what the underlay carries, before its effects
 */
import type { Datagram } from '../../src/datapath/datapath.ts';
import { formatIp, formatMac } from '../../src/flow/types.ts';
import { concat, getU16, getU32 } from '../../src/wire/bytes.ts';
import { ETH_HEADER_BYTES, parseEthernet } from '../../src/wire/ethernet.ts';
import { isIcmpError } from '../../src/wire/icmp-error.ts';
import { parseIcmp } from '../../src/wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP, parseIpv4 } from '../../src/wire/ipv4.ts';
import { IPV6_HEADER_BYTES, parseIpv6 } from '../../src/wire/ipv6.ts';
import { parseTcp, TCP_SYN } from '../../src/wire/l4.ts';
import { summary } from '../../src/wire/summary.ts';
import { parseVxlan } from '../../src/wire/vxlan.ts';
import { ecnNames } from './said.ts';

export const aspects = ['macs', 'ttl', 'tos', 'size', 'mss', 'quote', 'underlay'] as const;
export type Aspect = (typeof aspects)[number];

export function parseAspects(words: readonly string[]): readonly Aspect[] {
  return words.map((word) => {
    const aspect = aspects.find((one) => one === word);
    if (aspect === undefined) throw new Error(`show ${word}: accepted are ${aspects.join(', ')}`);
    return aspect;
  });
}

/** One line. */
export function frameText(frame: Uint8Array, shown: readonly Aspect[]): string {
  const details = shown.flatMap((aspect) => detail(aspect, frame) ?? []);
  return details.length === 0 ? summary(frame) : `${summary(frame)} [${details.join(', ')}]`;
}

/** One line: the outer header without its source port. */
export function datagramText({ source, destination, tos = 0, payload }: Datagram): string {
  const vxlan = parseVxlan(payload);
  const vni = vxlan ? `VNI ${vxlan.vni}` : 'no VXLAN';
  return `the underlay carries ${formatIp(source)} > ${formatIp(destination)}: ${vni}, ${tosText(tos)}`;
}

interface Packet {
  readonly tos: number;
  readonly ttl: number;
  readonly protocol: number;
  readonly payload: Uint8Array;
  readonly size: string;
}

function detail(aspect: Aspect, frame: Uint8Array): string | undefined {
  const ethernet = parseEthernet(frame)!;
  const packet = packetOf(ethernet.payload);
  switch (aspect) {
    case 'macs':
      return `${formatMac(ethernet.source)} > ${formatMac(ethernet.destination)}`;
    case 'ttl':
      return packet && `ttl ${packet.ttl}`;
    case 'tos':
      return packet && tosText(packet.tos);
    case 'size':
      return packet?.size;
    case 'mss':
      return packet && mssText(packet);
    case 'quote':
      return packet && quoteText(packet);
    case 'underlay':
      return undefined;
    default:
      return aspect satisfies never;
  }
}

function packetOf(bytes: Uint8Array): Packet | undefined {
  const v4 = parseIpv4(bytes);
  if (v4) {
    const { tos, ttl, protocol, payload, id, dontFragment, moreFragments, fragmentOffset } = v4;
    const isFragment = moreFragments || fragmentOffset > 0;
    const fragment = isFragment ? `, id ${id}${moreFragments ? ', more follow' : ', the last'}` : '';
    return { tos, ttl, protocol, payload, size: `${bytes.length} bytes${dontFragment ? ', DF' : ''}${fragment}` };
  }
  const v6 = parseIpv6(bytes);
  if (!v6) return undefined;
  const { trafficClass: tos, hopLimit: ttl, nextHeader: protocol, payload } = v6;
  return { tos, ttl, protocol, payload, size: `${bytes.length} bytes` };
}

function tosText(tos: number): string {
  return `dscp ${tos >> 2}, ${ecnNames[tos & 3]}`;
}

function mssText({ protocol, payload }: Packet): string | undefined {
  const tcp = protocol === IP_TCP ? parseTcp(payload) : undefined;
  if (!tcp || (tcp.flags & TCP_SYN) === 0 || tcp.options[0] !== 2) return undefined;
  return `mss ${getU16(tcp.options, 2)}`;
}

function quoteText({ protocol, payload }: Packet): string | undefined {
  if (protocol !== IP_ICMP && protocol !== IP_ICMPV6) return undefined;
  const message = parseIcmp(payload)!;
  if (!isIcmpError(protocol, message.type)) return undefined;
  const isV4 = protocol === IP_ICMP;
  const quoted = message.body.subarray(4);
  const wholeBytes = isV4 ? getU16(quoted, 2) : IPV6_HEADER_BYTES + getU16(quoted, 4);
  const header = new Uint8Array(ETH_HEADER_BYTES);
  header.set(isV4 ? [0x08, 0x00] : [0x86, 0xdd], 12);
  const text = summary(concat(header, quoted), ETH_HEADER_BYTES + wholeBytes);
  const isTooBig = isV4 ? message.type === 3 && message.code === 4 : message.type === 2;
  return isTooBig ? `mtu ${getU32(message.body, 0)}, quotes ${text}` : `quotes ${text}`;
}
