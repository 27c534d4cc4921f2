/**
 * rtnetlink messages (rtnetlink(7)): requests and replies about links, addresses and routes.
 * `ExchangeWithNetns` carries them into a namespace.
 *
 * A message is an nlmsghdr, a fixed part and attributes, all aligned to 4 bytes. Numbers are
 * in this machine's byte order and addresses in network byte order.
 */
import { endianness } from 'node:os';
import { formatIp, formatMac, isIp4, parseIp, parseMac } from '../flow/types.ts';
import { concat } from '../wire/bytes.ts';

const isLittle = endianness() === 'LE';
const HEADER_BYTES = 16;

const NLMSG_ERROR = 2;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;
const NLM_F_REPLACE = 0x100;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;

const AF_INET = 2;
const AF_INET6 = 10;
const IFF_UP = 1;
const IFLA = { address: 1, ifname: 3, mtu: 4, master: 10, linkinfo: 18, afSpec: 26, extMask: 29, carrier: 33 } as const;
const IFLA_INFO = { kind: 1, data: 2 } as const;
const IFLA_TUN = { type: 3, numQueues: 8, numDisabledQueues: 9 } as const;
const IFLA_INET6 = { conf: 2, addrGenMode: 8 } as const;
const IFF_TAP = 2;
/** RTEXT_FILTER_SKIP_STATS: the counters of a link are most of its message. */
const SKIP_STATS = 8;
/** DEVCONF_DISABLE_IPV6, an index (linux/ipv6.h). */
const DISABLE_IPV6 = 26;
const ADDR_GEN_MODE_EUI64 = 0;
const IFA = { address: 1, local: 2, broadcast: 4, flags: 8 } as const;
const IFA_F_NODAD = 2;
const RTA = { oif: 4, gateway: 5, priority: 6, table: 15 } as const;
const RT_TABLE_MAIN = 254;
/** To the routing daemons of a container, weft's routes look like an administrator's. */
const RTPROT_STATIC = 4;
const RTN_UNICAST = 1;

export interface LinkFacts {
  readonly ifindex: number;
  readonly ifname: string;
  readonly mac: string;
  readonly mtu: number;
  readonly isUp: boolean;
  readonly hasCarrier: boolean;
  /** Is it a port of a bridge or a bond of the namespace? */
  readonly hasMaster: boolean;
  /** Undefined if it has no IPv6: the kernel has none, or the MTU is too small. */
  readonly ip6: { readonly isDisabled: boolean; readonly isEui64: boolean } | undefined;
  /** For a TAP that can have several: the number of open queues. */
  readonly queues: number | undefined;
}

export interface AddressFacts {
  readonly ifindex: number;
  /** In the form of `formatIp`. */
  readonly ip: string;
  readonly prefixLength: number;
}

/** A default route of the main table that was added as a static one. */
export interface RouteFacts {
  readonly ifindex: number;
  readonly gateway: string;
  /** The lowest wins. */
  readonly metric: number;
}

/** One message, and the same in the words of iproute2, for error messages. */
export interface RtRequest {
  readonly message: Uint8Array;
  readonly text: string;
}

// Requests

export function getLinks(): RtRequest {
  const message = request(RTM_GETLINK, NLM_F_DUMP, ifinfo(0), [attribute(IFLA.extMask, number32(SKIP_STATS))]);
  return { message, text: 'link show' };
}

export function getAddresses(): RtRequest {
  return { message: request(RTM_GETADDR, NLM_F_DUMP, new Uint8Array(8)), text: 'address show' };
}

/** The static routes of the main table. */
export function getRoutes(family: 4 | 6): RtRequest {
  const fixed = Uint8Array.of(inet(family), 0, 0, 0, 0, RTPROT_STATIC, 0, 0, 0, 0, 0, 0);
  const message = request(RTM_GETROUTE, NLM_F_DUMP, fixed, [attribute(RTA.table, number32(RT_TABLE_MAIN))]);
  return { message, text: `-${family} route show proto static` };
}

/** Changes what is given. A link that is down gets its MAC and MTU before it comes up. */
export function setLink(
  { ifindex, ifname }: Pick<LinkFacts, 'ifindex' | 'ifname'>,
  change: {
    readonly mac?: string;
    readonly mtu?: number;
    readonly carrier?: 'on';
    /** IPv6 makes the link-local address from the MAC. */
    readonly addrgenmode?: 'eui64';
    readonly state?: 'up';
  },
): RtRequest {
  const { mac, mtu, carrier, addrgenmode, state } = change;
  const mode = attribute(IFLA_INET6.addrGenMode, Uint8Array.of(ADDR_GEN_MODE_EUI64));
  const message = request(RTM_NEWLINK, NLM_F_ACK, ifinfo(ifindex, state === undefined ? 0 : IFF_UP), [
    ...(mac === undefined ? [] : [attribute(IFLA.address, parseMac(mac))]),
    ...(mtu === undefined ? [] : [attribute(IFLA.mtu, number32(mtu))]),
    ...(carrier === undefined ? [] : [attribute(IFLA.carrier, Uint8Array.of(1))]),
    ...(addrgenmode === undefined ? [] : [attribute(IFLA.afSpec, attribute(AF_INET6, mode))]),
  ]);
  const words = Object.entries({ address: mac, mtu, carrier, addrgenmode }).flatMap(([word, value]) =>
    value === undefined ? [] : [`${word} ${value}`],
  );
  return { message, text: ['link set dev', ifname, ...words, ...(state === undefined ? [] : [state])].join(' ') };
}

export function deleteLink({ ifindex, ifname }: Pick<LinkFacts, 'ifindex' | 'ifname'>): RtRequest {
  return { message: request(RTM_DELLINK, NLM_F_ACK, ifinfo(ifindex)), text: `link delete dev ${ifname}` };
}

/** Nobody else has the address, so IPv6 need not look for duplicates first. */
export function addAddress(address: AddressFacts, ifname: string): RtRequest {
  const message = addressRequest(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, address);
  return { message, text: `address replace ${address.ip}/${address.prefixLength} dev ${ifname}` };
}

export function deleteAddress(address: AddressFacts, ifname: string): RtRequest {
  const message = addressRequest(RTM_DELADDR, NLM_F_ACK, address);
  return { message, text: `address del ${address.ip}/${address.prefixLength} dev ${ifname}` };
}

export function addDefaultRoute(route: RouteFacts, ifname: string): RtRequest {
  return {
    message: routeRequest(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, route),
    text: `route add ${routeText(route, ifname)}`,
  };
}

export function deleteDefaultRoute(route: RouteFacts, ifname: string): RtRequest {
  return { message: routeRequest(RTM_DELROUTE, NLM_F_ACK, route), text: `route del ${routeText(route, ifname)}` };
}

export function routeText({ gateway, metric }: RouteFacts, ifname: string): string {
  return `default via ${gateway} dev ${ifname} metric ${metric}`;
}

/** All requests, one after the other, numbered from 0: `readReplies` identifies replies by this number. */
export function concatRequests(requests: readonly RtRequest[]): Uint8Array {
  const all = new Uint8Array(requests.reduce((sum, { message }) => sum + message.length, 0));
  const view = new DataView(all.buffer);
  let at = 0;
  for (const [sequence, { message }] of requests.entries()) {
    all.set(message, at);
    view.setUint32(at + 8, sequence, isLittle);
    at += message.length;
  }
  return all;
}

// Replies

export interface RtReplies {
  readonly links: readonly LinkFacts[];
  readonly addresses: readonly AddressFacts[];
  readonly routes: readonly RouteFacts[];
  /** By the number of the request: the errno, positive. */
  readonly errors: ReadonlyMap<number, number>;
}

/** @param replies from `NetnsReply` */
export function readReplies(replies: Uint8Array): RtReplies {
  const view = new DataView(replies.buffer, replies.byteOffset, replies.length);
  const links: LinkFacts[] = [];
  const addresses: AddressFacts[] = [];
  const routes: RouteFacts[] = [];
  const errors = new Map<number, number>();
  for (let at = 0; at + HEADER_BYTES <= view.byteLength; ) {
    const lengthBytes = view.getUint32(at, isLittle);
    if (lengthBytes < HEADER_BYTES || at + lengthBytes > view.byteLength) break;
    const body = new DataView(view.buffer, view.byteOffset + at + HEADER_BYTES, lengthBytes - HEADER_BYTES);
    switch (view.getUint16(at + 4, isLittle)) {
      case RTM_NEWLINK:
        links.push(readLink(body));
        break;
      case RTM_NEWADDR:
        addresses.push(...readAddress(body));
        break;
      case RTM_NEWROUTE:
        routes.push(...readRoute(body));
        break;
      case NLMSG_ERROR: {
        const errno = -body.getInt32(0, isLittle);
        if (errno !== 0) errors.set(view.getUint32(at + 8, isLittle), errno);
        break;
      }
      default:
        break;
    }
    at += aligned(lengthBytes);
  }
  return { links, addresses, routes, errors };
}

function readLink(body: DataView): LinkFacts {
  const attributes = readAttributes(body, 16);
  const info = nested(attributes.get(IFLA.linkinfo));
  const tun = textOf(info.get(IFLA_INFO.kind)) === 'tun' ? nested(info.get(IFLA_INFO.data)) : undefined;
  const isTap = tun?.get(IFLA_TUN.type)?.getUint8(0) === IFF_TAP;
  const ip6 = nested(nested(attributes.get(IFLA.afSpec)).get(AF_INET6));
  const conf = ip6.get(IFLA_INET6.conf);
  const mac = attributes.get(IFLA.address);
  return {
    ifindex: body.getInt32(4, isLittle),
    ifname: textOf(attributes.get(IFLA.ifname)),
    mac: mac?.byteLength === 6 ? formatMac(bytesOf(mac)) : '',
    mtu: numberOf(attributes.get(IFLA.mtu)),
    isUp: (body.getUint32(8, isLittle) & IFF_UP) !== 0,
    hasCarrier: attributes.get(IFLA.carrier)?.getUint8(0) === 1,
    hasMaster: attributes.has(IFLA.master),
    ip6: conf && {
      isDisabled: conf.getInt32(4 * DISABLE_IPV6, isLittle) !== 0,
      isEui64: ip6.get(IFLA_INET6.addrGenMode)?.getUint8(0) === ADDR_GEN_MODE_EUI64,
    },
    // The kernel does not say it of others.
    queues:
      isTap && tun.has(IFLA_TUN.numQueues)
        ? numberOf(tun.get(IFLA_TUN.numQueues)) + numberOf(tun.get(IFLA_TUN.numDisabledQueues))
        : undefined,
  };
}

function readAddress(body: DataView): AddressFacts[] {
  const attributes = readAttributes(body, 8);
  // On a point-to-point link, IFA_ADDRESS is the address of the other end.
  const ip = attributes.get(IFA.local) ?? attributes.get(IFA.address);
  if (!ip) return [];
  return [{ ifindex: body.getUint32(4, isLittle), ip: formatIp(ipOf(ip)), prefixLength: body.getUint8(1) }];
}

function readRoute(body: DataView): RouteFacts[] {
  const attributes = readAttributes(body, 12);
  const gateway = attributes.get(RTA.gateway);
  const isDefault = body.getUint8(1) === 0 && body.getUint8(7) === RTN_UNICAST;
  const isStatic = body.getUint8(5) === RTPROT_STATIC && numberOf(attributes.get(RTA.table)) === RT_TABLE_MAIN;
  if (!gateway || !isDefault || !isStatic) return [];
  return [
    {
      ifindex: numberOf(attributes.get(RTA.oif)),
      gateway: formatIp(ipOf(gateway)),
      metric: numberOf(attributes.get(RTA.priority)),
    },
  ];
}

// Bytes

function request(type: number, flags: number, fixed: Uint8Array, attributes: readonly Uint8Array[] = []): Uint8Array {
  const message = concat(new Uint8Array(HEADER_BYTES), fixed, ...attributes);
  const view = new DataView(message.buffer);
  view.setUint32(0, message.length, isLittle);
  view.setUint16(4, type, isLittle);
  view.setUint16(6, NLM_F_REQUEST | flags, isLittle);
  return message;
}

/** ifinfomsg; `up` holds the flags that are set. */
function ifinfo(ifindex: number, up = 0): Uint8Array {
  const fixed = new Uint8Array(16);
  const view = new DataView(fixed.buffer);
  view.setInt32(4, ifindex, isLittle);
  view.setUint32(8, up, isLittle);
  view.setUint32(12, up, isLittle);
  return fixed;
}

function addressRequest(type: number, flags: number, { ifindex, ip: text, prefixLength }: AddressFacts): Uint8Array {
  const ip = familyBytes(text);
  const fixed = concat(Uint8Array.of(inet(ip.length === 4 ? 4 : 6), prefixLength, 0, 0), number32(ifindex));
  return request(type, flags, fixed, [
    attribute(IFA.local, ip),
    attribute(IFA.address, ip),
    ...(ip.length === 4 && prefixLength <= 30 ? [attribute(IFA.broadcast, broadcastOf(ip, prefixLength))] : []),
    ...(ip.length === 16 && type === RTM_NEWADDR ? [attribute(IFA.flags, number32(IFA_F_NODAD))] : []),
  ]);
}

/** All bits of the host part are set; 4 bytes each. */
function broadcastOf(ip: Uint8Array, prefixLength: number): Uint8Array {
  return ip.map((byte, at) => byte | (0xff >> Math.min(Math.max(prefixLength - 8 * at, 0), 8)));
}

function routeRequest(type: number, flags: number, { ifindex, gateway, metric }: RouteFacts): Uint8Array {
  const ip = familyBytes(gateway);
  const family = inet(ip.length === 4 ? 4 : 6);
  const fixed = Uint8Array.of(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0);
  return request(type, flags, fixed, [
    attribute(RTA.gateway, ip),
    attribute(RTA.oif, number32(ifindex)),
    attribute(RTA.priority, number32(metric)),
  ]);
}

/** rtattr: length and type, then the value, padded. */
function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(aligned(4 + value.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + value.length, isLittle);
  view.setUint16(2, type, isLittle);
  bytes.set(value, 4);
  return bytes;
}

/** By type, without the flags in it (NLA_TYPE_MASK). The values are views of `body`. */
function readAttributes(body: DataView, from: number): Map<number, DataView> {
  const attributes = new Map<number, DataView>();
  for (let at = from; at + 4 <= body.byteLength; ) {
    const lengthBytes = body.getUint16(at, isLittle);
    if (lengthBytes < 4 || at + lengthBytes > body.byteLength) break;
    const type = body.getUint16(at + 2, isLittle) & 0x3fff;
    attributes.set(type, new DataView(body.buffer, body.byteOffset + at + 4, lengthBytes - 4));
    at += aligned(lengthBytes);
  }
  return attributes;
}

function nested(value: DataView | undefined): Map<number, DataView> {
  return value ? readAttributes(value, 0) : new Map();
}

function numberOf(value: DataView | undefined): number {
  return value && value.byteLength >= 4 ? value.getUint32(0, isLittle) : 0;
}

/** Without the terminating zero byte. */
function textOf(value: DataView | undefined): string {
  return value ? Buffer.from(bytesOf(value)).toString('latin1').replace(/\0.*$/s, '') : '';
}

function bytesOf(value: DataView): Uint8Array {
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

/** 16 bytes; IPv4 as IPv4-mapped. */
function ipOf(value: DataView): Uint8Array {
  const bytes = bytesOf(value);
  return bytes.length === 4 ? Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...bytes) : bytes;
}

/** 4 bytes for IPv4, 16 for IPv6. */
function familyBytes(text: string): Uint8Array {
  const ip = parseIp(text);
  return isIp4(ip) ? ip.subarray(12) : ip;
}

function inet(family: 4 | 6): number {
  return family === 4 ? AF_INET : AF_INET6;
}

function number32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, isLittle);
  return bytes;
}

function aligned(bytes: number): number {
  return (bytes + 3) & ~3;
}
