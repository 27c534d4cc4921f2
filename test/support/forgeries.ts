/** Frames that a workload may not send, each with the reason for which it is dropped. */
import type { DropReason } from '../../src/flow/reason.ts';
import { parseIp, parseMac } from '../../src/flow/types.ts';
import { concat } from '../../src/wire/bytes.ts';
import { buildIcmp4, buildIcmp6 } from '../../src/wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6 } from '../../src/wire/ipv4.ts';
import { ND_OPTION_SOURCE_LLA, ND_OPTION_TARGET_LLA } from '../../src/wire/nd.ts';
import { advertisement, arpReply, arpRequest, ethernet, ip, solicitation, udp, type Ends } from './frames.ts';

export interface Forgery {
  readonly what: string;
  readonly reason: DropReason;
  readonly frame: Uint8Array;
  /** May a trusted port send it? */
  readonly isLifted: boolean;
}

interface Workload {
  readonly mac: string;
  readonly ip4: string;
  readonly ip6: string;
}

const foreignMac = '02:66:66:66:66:66';
const foreign4 = '10.44.0.99';
const foreign6 = 'fd44::99';
const allNodes = { dst: 'ff02::1', dstMac: '33:33:00:00:00:01' };
const allRouters = { dst: 'ff02::2', dstMac: '33:33:00:00:00:02' };

/** From `web`, which has only these addresses, to `db`. */
export function forgeries(web: Workload, db: Workload): Forgery[] {
  const own4 = { srcMac: web.mac, dstMac: db.mac, src: web.ip4, dst: db.ip4 };
  const own6 = { ...own4, src: web.ip6, dst: db.ip6 };
  const forged = (what: string, reason: DropReason, frame: Uint8Array): Forgery => ({
    what,
    reason,
    frame,
    isLifted: true,
  });
  const never = (what: string, reason: DropReason, frame: Uint8Array): Forgery => ({
    what,
    reason,
    frame,
    isLifted: false,
  });
  return [
    forged('source MAC', 'spoof_mac', udp({ ...own4, srcMac: foreignMac }, 1, 2)),
    forged('IPv4 source', 'spoof_ip4', udp({ ...own4, src: foreign4 }, 1, 2)),
    forged('IPv6 source', 'spoof_ip6', udp({ ...own6, src: foreign6 }, 1, 2)),
    forged('ARP sender address', 'spoof_arp', arpReply({ ...own4, src: foreign4 })),
    forged(
      'ARP sender address, as a request',
      'spoof_arp',
      arpRequest({ srcMac: web.mac, src: foreign4, dst: '10.44.0.98' }),
    ),
    forged('ND target of an advertisement', 'spoof_nd', advertisement({ ...own6, target: foreign6 })),
    forged(
      'ND link-layer option',
      'spoof_nd',
      advertisement({ ...own6, target: web.ip6, options: [lla(ND_OPTION_TARGET_LLA)] }),
    ),
    forged(
      'ND link-layer option of a solicitation',
      'spoof_nd',
      solicitation({ ...own6, target: 'fd44::98', options: [lla(ND_OPTION_SOURCE_LLA)] }),
    ),
    forged(
      'ND link-layer option of a router solicitation',
      'spoof_nd',
      icmp6(133, { ...own6, ...allRouters }, concat(new Uint8Array(4), optionBytes(ND_OPTION_SOURCE_LLA))),
    ),
    forged('router advertisement', 'rogue_ra', icmp6(134, { ...own6, ...allNodes }, new Uint8Array(12))),
    forged('redirect', 'rogue_ra', icmp6(137, own6, new Uint8Array(36))),
    forged('ICMPv4 router advertisement', 'rogue_ra', icmp4(9, own4, new Uint8Array(12))),
    forged('ICMPv4 redirect', 'rogue_ra', icmp4(5, own4, new Uint8Array(32))),
    forged('DHCP server', 'rogue_dhcp', udp(own4, 67, 68, new Uint8Array(20))),
    forged('DHCPv6 server', 'rogue_dhcp', udp(own6, 547, 546, new Uint8Array(20))),
    forged('IPv4 behind LLC and SNAP', 'ethertype_llc', snap(own4, udp({ ...own4, src: foreign4 }, 1, 2))),
    forged('ARP behind LLC and SNAP', 'ethertype_llc', snap(own4, arpReply({ ...own4, src: foreign4 }))),
    forged('RARP', 'ethertype_rarp', ethernet(own4, 0x8035, arpReply({ ...own4, src: foreign4 }).subarray(14))),
    forged('PTP', 'ethertype_refused', ethernet(own4, 0x88f7, new Uint8Array(46))),
    forged('LLDP to a container', 'ethertype_refused', ethernet(own4, 0x88cc, new Uint8Array(46))),

    never('ND link-layer option twice', 'nd_malformed', twoOptions({ ...own6, target: web.ip6 }, web.mac)),
    never('ND link-layer option of 16 bytes', 'nd_malformed', longOption({ ...own6, target: web.ip6 })),
    never('IPv6 from an IPv4-mapped address', 'ipv4_mapped', mapped(udp(own6, 1, 2), 22, foreign4)),
    never('IPv6 to an IPv4-mapped address', 'ipv4_mapped', mapped(udp(own6, 1, 2), 38, db.ip4)),
    never('VLAN tag', 'vlan_not_carried', udp({ ...own4, vlan: { tpid: 0x8100, tci: 5 } }, 1, 2)),
    ...[0x9100, 0x9200, 0x9300].map((tpid) =>
      never(`VLAN tag ${tpid.toString(16)}`, 'vlan_not_carried', tagged(udp(own4, 1, 2), tpid)),
    ),
    never('pause frame', 'mac_control', ethernet(own4, 0x8808, Uint8Array.of(0, 1, 0xff, 0xff, ...new Uint8Array(42)))),
    never('zero destination MAC', 'bad_destination_mac', udp({ ...own4, dstMac: '00:00:00:00:00:00' }, 1, 2)),
    never('spanning tree', 'bridge_control', snap({ ...own4, dstMac: '01:80:c2:00:00:00' })),
    never('LLDP', 'bridge_control', ethernet({ ...own4, dstMac: '01:80:c2:00:00:0e' }, 0x88cc, new Uint8Array(46))),
    never('PVST+', 'cisco_control', snap({ ...own4, dstMac: '01:00:0c:cc:cc:cd' })),
    never('CDP', 'cisco_control', snap({ ...own4, dstMac: '01:00:0c:cc:cc:cc' })),
    never('group source MAC', 'bad_source_mac', udp({ ...own4, srcMac: '03:00:00:00:00:01' }, 1, 2)),
    never('zero source MAC', 'bad_source_mac', udp({ ...own4, srcMac: '00:00:00:00:00:00' }, 1, 2)),
  ];
}

function lla(type: number, mac = foreignMac) {
  return { type, data: parseMac(mac) };
}

function optionBytes(type: number): Uint8Array {
  return concat(Uint8Array.of(type, 1), parseMac(foreignMac));
}

type Of = Ends & { readonly src: string; readonly dst: string };

function icmp6(type: number, ends: Of, body: Uint8Array): Uint8Array {
  const message = buildIcmp6(parseIp(ends.src), parseIp(ends.dst), { type, code: 0, body });
  return ip({ ...ends, ip6: { hopLimit: 255 } }, IP_ICMPV6, message);
}

function icmp4(type: number, ends: Of, body: Uint8Array): Uint8Array {
  return ip(ends, IP_ICMP, buildIcmp4({ type, code: 0, body }));
}

/** The payload and EtherType of a frame behind LLC and SNAP (RFC 1042); something short if no frame is given. */
function snap(ends: Ends, frame: Uint8Array = new Uint8Array(54)): Uint8Array {
  const payload = concat(Uint8Array.of(0xaa, 0xaa, 3, 0, 0, 0), frame.subarray(12));
  return ethernet(ends, payload.length, payload);
}

function tagged(frame: Uint8Array, tpid: number): Uint8Array {
  return concat(frame.subarray(0, 12), Uint8Array.of(tpid >> 8, tpid, 0, 5), frame.subarray(12));
}

function mapped(frame: Uint8Array, at: number, ip4: string): Uint8Array {
  const copy = frame.slice();
  copy.set(parseIp(ip4), at);
  return copy;
}

type Advertised = Parameters<typeof advertisement>[0];

/** The first option is right, so a check of the first one alone lets the second one pass. */
function twoOptions(ends: Advertised, mac: string): Uint8Array {
  return advertisement({ ...ends, options: [lla(ND_OPTION_TARGET_LLA, mac), lla(ND_OPTION_TARGET_LLA)] });
}

function longOption(ends: Advertised): Uint8Array {
  return advertisement({
    ...ends,
    options: [{ type: ND_OPTION_TARGET_LLA, data: concat(parseMac(foreignMac), new Uint8Array(8)) }],
  });
}
