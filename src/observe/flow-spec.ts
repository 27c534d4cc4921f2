/**
 * Flows as text: `in_port=web,tcp,ip_dst=10.0.0.3,tcp_dst=80`, in the match syntax of Open
 * vSwitch, including its older field names.
 *
 * Fields that are not named are filled in as the workload behind the port would send them: its
 * own MAC and address as source, the known neighbor's MAC as destination. A TCP segment is the
 * SYN with which a connection begins: of others, a few decisions are different.
 */
import { WeftError } from '../error.ts';
import { fieldList, fields, FRAG_FIRST, FRAG_LATER, FRAG_NONE, type FieldName } from '../flow/fields.ts';
import { emptyKey, readBytes, readNumber, writeNumber, type FlowKey } from '../flow/key.ts';
import { isIp4, isZero, parseIp, parseMac, type PortNo } from '../flow/types.ts';
import { didYouMean } from '../model/nearest.ts';
import { withCtState } from '../pipeline/ct-state.ts';
import type { Tables } from '../pipeline/stage.ts';
import { gatewayMac, type VirtualNetwork } from '../table/topology.ts';
import { buildEthernet, ETH_ARP, ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { ICMP_ECHO_REQUEST, ICMPV6_ECHO_REQUEST } from '../wire/icmp.ts';
import { buildIpv4, IP_ICMP, IP_ICMPV6, IP_SCTP, IP_TCP, IP_UDP } from '../wire/ipv4.ts';
import { buildIpv6 } from '../wire/ipv6.ts';
import { buildTcp } from '../wire/l4.ts';

/** A word on its own sets EtherType and protocol. */
const words: Record<string, { type?: number; proto?: number }> = {
  ip: { type: ETH_IPV4 },
  ipv6: { type: ETH_IPV6 },
  arp: { type: ETH_ARP },
  icmp: { type: ETH_IPV4, proto: IP_ICMP },
  icmp6: { type: ETH_IPV6, proto: IP_ICMPV6 },
  tcp: { proto: IP_TCP },
  tcp6: { type: ETH_IPV6, proto: IP_TCP },
  udp: { proto: IP_UDP },
  udp6: { type: ETH_IPV6, proto: IP_UDP },
  sctp: { proto: IP_SCTP },
};

const aliases: Record<string, FieldName> = {
  dl_src: 'eth_src',
  dl_dst: 'eth_dst',
  dl_type: 'eth_type',
  tun_id: 'tun_vni',
  nw_src: 'ip_src',
  nw_dst: 'ip_dst',
  ipv6_src: 'ip_src',
  ipv6_dst: 'ip_dst',
  arp_spa: 'ip_src',
  arp_tpa: 'ip_dst',
  nw_proto: 'ip_proto',
  arp_op: 'ip_proto',
  nw_tos: 'ip_tos',
  nw_ttl: 'ip_ttl',
  nw_frag: 'ip_frag',
  tcp_src: 'l4_src',
  udp_src: 'l4_src',
  sctp_src: 'l4_src',
  tp_src: 'l4_src',
  icmp_type: 'l4_src',
  icmpv6_type: 'l4_src',
  tcp_dst: 'l4_dst',
  udp_dst: 'l4_dst',
  sctp_dst: 'l4_dst',
  tp_dst: 'l4_dst',
  icmp_code: 'l4_dst',
  icmpv6_code: 'l4_dst',
  arp_sha: 'nd_lla',
  nd_sll: 'nd_lla',
  nd_tll: 'nd_lla',
};

/** The fields of a frame. The state of its connection follows from those. */
const givenFields = fieldList.map(({ name }) => name).filter((name) => name !== 'ct_state');

const fragments: Record<string, number> = { no: FRAG_NONE, first: FRAG_FIRST, later: FRAG_LATER };

export interface DescribedFrame {
  readonly key: FlowKey;
  /** The frame itself, where it matters what follows the fields. */
  readonly head: Uint8Array | undefined;
}

/** @throws WeftError('invalid') that names the part that was not understood */
export function parseFlow(
  text: string,
  tables: Tables,
  portByName: (name: string) => PortNo | undefined,
): DescribedFrame {
  const key = emptyKey();
  const given = new Set<FieldName>();
  const set = (name: FieldName, value: string): void => {
    if (given.has(name)) throw new WeftError('invalid', `flow: ${name} is given twice`);
    given.add(name);
    writeField(key, name, value, portByName);
  };

  for (const part of text.split(',').map((item) => item.trim())) {
    if (part === '') continue;
    const equals = part.indexOf('=');
    if (equals < 0) {
      const word = words[part];
      if (!word)
        throw new WeftError(
          'invalid',
          `flow: "${part}" is not known${didYouMean(part, Object.keys(words)) || ':'} accepted are FIELD=VALUE and ${Object.keys(words).join(', ')}`,
        );
      if (word.type !== undefined) set('eth_type', String(word.type));
      if (word.proto !== undefined) set('ip_proto', String(word.proto));
      continue;
    }
    const word = part.slice(0, equals);
    const name = givenFields.find((field) => field === word) ?? aliases[word];
    if (!name) {
      const known = [...givenFields, ...Object.keys(aliases)];
      throw new WeftError(
        'invalid',
        `flow: field "${word}" is not known${didYouMean(word, known) || ':'} accepted are ${known.join(', ')}`,
      );
    }
    set(name, part.slice(equals + 1));
  }
  if (!given.has('in_port'))
    throw new WeftError('invalid', 'flow: in_port is missing: name the endpoint that sends the frame');
  complete(key, given, tables);
  if (isIpPacket(key) && !given.has('ip_dst') && !given.has('eth_dst'))
    throw new WeftError('invalid', 'flow: ip_dst is missing: give the address that the packet is sent to');
  const head = synOf(key);
  return { key: withCtState(key, tables, head), head };
}

function isIpPacket(key: FlowKey): boolean {
  const type = readNumber(key, fields.eth_type);
  return type === ETH_IPV4 || type === ETH_IPV6;
}

/** Undefined if the fields are not those of a TCP segment. */
function synOf(key: FlowKey): Uint8Array | undefined {
  const number = (name: FieldName): number => readNumber(key, fields[name]);
  const type = number('eth_type');
  if (
    !isIpPacket(key) ||
    number('ip_proto') !== IP_TCP ||
    number('vlan_tci') !== 0 ||
    number('ip_frag') === FRAG_LATER
  ) {
    return undefined;
  }
  // An IPv4 address is the end of its field.
  const address = (name: FieldName): Uint8Array => readBytes(key, fields[name]).subarray(type === ETH_IPV4 ? 12 : 0);
  const ends = { source: address('ip_src'), destination: address('ip_dst') };
  const payload = buildTcp(ends.source, ends.destination, {
    sourcePort: number('l4_src'),
    destinationPort: number('l4_dst'),
  });
  const [tos, ttl] = [number('ip_tos'), number('ip_ttl')];
  return buildEthernet({
    ...{ source: readBytes(key, fields.eth_src), destination: readBytes(key, fields.eth_dst), type },
    payload:
      type === ETH_IPV4
        ? buildIpv4({ ...ends, payload, tos, ttl, protocol: IP_TCP })
        : buildIpv6({ ...ends, payload, trafficClass: tos, hopLimit: ttl, nextHeader: IP_TCP }),
  });
}

function writeField(
  key: Uint8Array,
  name: FieldName,
  text: string,
  portByName: (name: string) => PortNo | undefined,
): void {
  const field = fields[name];
  const refuse = (accepted: string): never => {
    throw new WeftError('invalid', `flow: ${name}: "${text}" is not accepted: give ${accepted}`);
  };
  switch (field.kind) {
    case 'port': {
      const port = portByName(text);
      if (port === undefined) refuse('the name or the number of a port (weft status shows them)');
      else writeNumber(key, field, port);
      return;
    }
    case 'mac':
      try {
        key.set(parseMac(text), field.offset);
      } catch {
        refuse('a MAC address like 02:00:00:00:00:01');
      }
      return;
    case 'ip':
      try {
        key.set(parseIp(text), field.offset);
      } catch {
        refuse('an IPv4 or IPv6 address');
      }
      return;
    case 'u8':
    case 'u16':
    case 'u32': {
      const value =
        name === 'ip_frag' && text in fragments ? fragments[text]! : Number(text === '' ? Number.NaN : text);
      const limit = 2 ** (8 * field.size) - 1;
      if (!Number.isInteger(value) || value < 0 || value > limit) refuse(`a whole number, 0 to ${limit}`);
      else writeNumber(key, field, value);
      return;
    }
    default:
      field.kind satisfies never;
  }
}

/** Fills in the fields as the workload would. */
function complete(key: Uint8Array, given: ReadonlySet<FieldName>, tables: Tables): void {
  const { topology, neighbors } = tables;
  const portNo = readNumber(key, fields.in_port) as PortNo;
  const port = topology.port(portNo);
  const { outside } = topology;
  if (outside?.portNo === portNo && !given.has('eth_dst')) key.set(outside.mac, fields.eth_dst.offset);
  const source = readBytes(key, fields.ip_src);
  const destination = readBytes(key, fields.ip_dst);

  if (!given.has('eth_type') && (given.has('ip_dst') || given.has('ip_src') || given.has('ip_proto'))) {
    const sample = given.has('ip_dst') ? destination : source;
    writeNumber(key, fields.eth_type, isIp4(sample) || isZero(sample) ? ETH_IPV4 : ETH_IPV6);
  }
  const type = readNumber(key, fields.eth_type);
  const isV4 = type === ETH_IPV4 || type === ETH_ARP;
  const isIp = isV4 || type === ETH_IPV6;
  if (isIp && !given.has('ip_src')) {
    const own = port?.addresses.find((address) => isIp4(address) === isV4);
    if (own) key.set(own, fields.ip_src.offset);
  }
  // An IPv4 address that was not given is 0.0.0.0, which is not all zero in the key.
  if (isV4) {
    const zero = parseIp('0.0.0.0');
    if (isZero(source)) key.set(zero, fields.ip_src.offset);
    if (isZero(destination)) key.set(zero, fields.ip_dst.offset);
  }
  if (isIpPacket(key) && !given.has('ip_ttl')) writeNumber(key, fields.ip_ttl, 64);
  // Type 0 would be an answer to a ping, which is decided otherwise than a ping.
  if (!given.has('l4_src')) {
    const proto = readNumber(key, fields.ip_proto);
    if (type === ETH_IPV4 && proto === IP_ICMP) writeNumber(key, fields.l4_src, ICMP_ECHO_REQUEST);
    if (type === ETH_IPV6 && proto === IP_ICMPV6) writeNumber(key, fields.l4_src, ICMPV6_ECHO_REQUEST);
  }
  if (port && !given.has('eth_src')) key.set(port.mac, fields.eth_src.offset);
  if (type === ETH_ARP) {
    if (!given.has('ip_proto')) writeNumber(key, fields.ip_proto, 1);
    if (!given.has('nd_lla')) key.set(readBytes(key, fields.eth_src), fields.nd_lla.offset);
    if (!given.has('eth_dst')) key.fill(0xff, fields.eth_dst.offset, fields.eth_dst.offset + fields.eth_dst.size);
  } else if (port && isIp && !given.has('eth_dst')) {
    const mac = neighbors.lookup(port.vni, destination) ?? gatewayFor(topology.network(port.vni), destination);
    if (mac) key.set(mac, fields.eth_dst.offset);
  }
}

/** The MAC to which a workload sends packets for destinations outside the subnets of its network. */
function gatewayFor(network: VirtualNetwork | undefined, destination: Uint8Array): Uint8Array | undefined {
  if (!network || network.gateways.length === 0) return undefined;
  const { route } = network.routes.lookup(destination);
  const isOnLink = route?.kind === 'network' && route.network === network.name;
  return isOnLink ? undefined : gatewayMac(network.vni);
}
