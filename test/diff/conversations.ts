/**
 * Conversations for datapaths behind a pipeline that lets little else pass: frames that workloads send on their own,
 * and the answers to them. Addresses are those of `PipelineDecider`.
 */
import { gatewayMac, hostMacOf } from '../../src/table/topology.ts';
import { formatMac, parseIp, parseMac, sameBytes, type Vni } from '../../src/flow/types.ts';
import { concat, getU16, setU16 } from '../../src/wire/bytes.ts';
import { buildEthernet, ETH_IPV4, ETH_IPV6, parseEthernet } from '../../src/wire/ethernet.ts';
import { buildIcmp4, buildIcmp6, ICMP_ECHO_REPLY, ICMPV6_ECHO_REPLY, parseIcmp } from '../../src/wire/icmp.ts';
import { isIcmpError } from '../../src/wire/icmp-error.ts';
import { buildIpv4, IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP, parseIpv4 } from '../../src/wire/ipv4.ts';
import { buildIpv6, parseIpv6 } from '../../src/wire/ipv6.ts';
import { buildTcp, parseTcp, TCP_SYN } from '../../src/wire/l4.ts';
import * as frames from '../support/frames.ts';
import type { Random } from '../support/random.ts';
import { VIPS } from './services.ts';

/** Of a host that shares the store. */
export const SHARING_VTEP = parseIp('192.0.2.3');
const [TCP_FIN, TCP_RST, TCP_ACK] = [1, 4, 16];
const QUOTED_BYTES = 48;
const mss = Uint8Array.of(2, 4, 5, 180);

/** A frame, and the port where it comes in; or the VTEP and the network, if it comes by the tunnel. */
export interface Said {
  readonly port: number;
  readonly frame: Uint8Array;
  readonly tunnel?: { readonly vtep: Uint8Array; readonly vni: Vni };
}

/** The port of each possible sender. */
const speakers = [2, 2, 4, 5, 3];
const outside = { ip4: '198.51.100.1', ip6: '2001:db8:99::1' };
const transit = { ip4: '198.51.100.2', ip6: '2001:db8:99::2' };

function addressOf(port: number, isV6: boolean): string {
  if (port === 3) return isV6 ? outside.ip6 : outside.ip4;
  if (port === 5) return isV6 ? 'fd01::5' : '10.0.1.5';
  return isV6 ? `fd00::${port}` : `10.0.0.${port}`;
}

const macOf = (port: number): string => `02:00:00:00:00:0${port}`;

/** The first packets of a few conversations, so that they repeat. */
export function say(random: Random): Said {
  if (random.chance(0.15)) return sayAsHost(random);
  if (random.chance(0.15)) return beginAnother(random);
  const [port, isV6] = [random.pick(speakers), random.chance(0.5)];
  const to = random.pick([2, 3, 3, 3, 4, 5].filter((other) => other !== port));
  const isSwitched = port !== 3 && port !== 5 && (to === 2 || to === 4);
  const router = formatMac(gatewayMac((port === 5 ? 100 : 1) as Vni));
  const isForService = port !== 3 && random.chance(0.4);
  const service = random.pick(VIPS)[isV6 ? 'ip6' : 'ip4'];
  const ends = {
    srcMac: macOf(port),
    dstMac: port === 3 ? macOf(2) : isSwitched && !isForService ? macOf(to) : router,
    src: addressOf(port, isV6),
    dst: port === 3 ? (isV6 ? transit.ip6 : transit.ip4) : isForService ? service : addressOf(to, isV6),
    ip4: { dontFragment: random.chance(0.5), ttl: random.chance(0.05) ? 1 : 64 },
    ip6: { hopLimit: random.chance(0.05) ? 1 : 64 },
  };
  const payload = new Uint8Array(random.pick([0, 20, 20, 200]));
  if (random.chance(0.04)) return { port, frame: notIp(ends, random) };
  const [sourcePort, destinationPort] = [random.pick([1234, 1235, 1236]), random.pick([53, 80])];
  switch (random.pick(isForService ? toServices : toOthers)) {
    case 'echo':
      return { port, frame: frames.echo(ends, random.int(3), 1, payload) };
    case 'udp':
      return { port, frame: frames.udp(ends, sourcePort, destinationPort, payload) };
    default:
      return { port, frame: frames.tcp(ends, { sourcePort, destinationPort, options: mss }) };
  }
}

/** A client opens one connection after another to a service: the datapath opens the later ones by itself. */
function beginAnother(random: Random): Said {
  const [port, family] = [random.pick([2, 2, 2, 5]), random.pick(['ip4', 'ip6'] as const)];
  const ends = {
    srcMac: macOf(port),
    dstMac: formatMac(gatewayMac((port === 5 ? 100 : 1) as Vni)),
    src: addressOf(port, family === 'ip6'),
    dst: random.pick(VIPS.slice(0, 2))[family],
  };
  const ports = { sourcePort: 2000 + random.int(100), destinationPort: 80 };
  return { port, frame: random.chance(0.2) ? frames.udp(ends, ports.sourcePort, 80) : frames.tcp(ends, ports) };
}

const toOthers = ['echo', 'udp', 'udp', 'tcp'] as const;
/** Their limits of connections are those of TCP. */
const toServices = ['echo', 'udp', 'udp', 'tcp', 'tcp', 'tcp', 'tcp', 'tcp'] as const;

/** What the host that shares the store brings from outside, or what its backend answers to a client outside. */
function sayAsHost(random: Random): Said {
  const isV6 = random.chance(0.5);
  const [client, backend] = [isV6 ? outside.ip6 : outside.ip4, isV6 ? 'fd00::7' : '10.0.0.7'];
  const isReply = random.chance(0.6);
  const port = random.pick([2, 2, 4, 5]);
  const vni = (port === 5 && !isReply ? 100 : 1) as Vni;
  const ends = {
    srcMac: formatMac(gatewayMac(vni)),
    dstMac: isReply ? formatMac(hostMacOf(Uint8Array.of(0, 0, 1))) : macOf(port),
    ...(isReply ? { src: backend, dst: client } : { src: client, dst: addressOf(port, isV6) }),
  };
  const [atClient, atBackend] = [random.pick([1234, 1235, 1236]), random.pick([53, 80, 8080])];
  const [sourcePort, destinationPort] = isReply ? [atBackend, atClient] : [atClient, atBackend];
  const payload = new Uint8Array(random.pick([0, 20]));
  const frame = random.chance(0.5)
    ? frames.udp(ends, sourcePort, destinationPort, payload)
    : frames.tcp(ends, { sourcePort, destinationPort, options: mss, flags: isReply ? TCP_SYN | TCP_ACK : TCP_SYN });
  return { port: 0, frame, tunnel: { vtep: SHARING_VTEP, vni } };
}

/** Frames that an honest workload may or may not send outside conversations. */
function notIp(ends: frames.Ends & { readonly src: string }, random: Random): Uint8Array {
  const type = random.pick([0x002e, 0x8035, 0x8808, 0x88cc, 0x88f7, 0x9100, ETH_IPV4]);
  if (type !== ETH_IPV4) return frames.ethernet(ends, type, new Uint8Array(46));
  const v6 = ends.src.includes(':');
  const router = Uint8Array.of(v6 ? 134 : random.pick([5, 9]), ...new Uint8Array(15));
  return frames.ip({ ...ends, ip6: { hopLimit: 255 } }, v6 ? IP_ICMPV6 : IP_ICMP, router);
}

/** A backend sends to a client in its own network without its gateway. Undefined if this is none in the first network. */
function macOfNeighbor(ip: Uint8Array): Uint8Array | undefined {
  const port = [2, 4].find((one) => [false, true].some((isV6) => sameBytes(frames.wireIp(addressOf(one, isV6)), ip)));
  return port === undefined ? undefined : parseMac(macOf(port));
}

/** The MACs of an answer from another host to a routed frame: it is routed, too, and maybe for a connection that came in here. */
function macsFromHost(vni: Vni): { readonly source: Uint8Array; readonly destination: Uint8Array } {
  return { source: gatewayMac(vni), destination: hostMacOf(Uint8Array.of(0, 0, 1)) };
}

/** Nobody answers an ICMP error or a reset: those that are sent for refused packets would leave no room for anything else. */
export function isAnswerable(frame: Uint8Array): boolean {
  const ethernet = parseEthernet(frame);
  const ip4 = ethernet?.type === ETH_IPV4 ? parseIpv4(ethernet.payload) : undefined;
  const ip6 = ethernet?.type === ETH_IPV6 ? parseIpv6(ethernet.payload) : undefined;
  const [protocol, payload] = [ip4?.protocol ?? ip6?.nextHeader, (ip4 ?? ip6)?.payload];
  if (protocol === undefined || !payload) return false;
  if (protocol === IP_TCP) return ((parseTcp(payload)?.flags ?? TCP_RST) & TCP_RST) === 0;
  return payload.length === 0 || !isIcmpError(protocol, payload[0]!);
}

/**
 * An answer to a frame, where it arrived; undefined unless it is an IP packet without options and extension headers.
 */
export function answerTo({ frame, tunnel }: Said, random: Random): Uint8Array | undefined {
  const ethernet = parseEthernet(frame);
  if (!ethernet || ethernet.vlan) return undefined;
  const ip4 = ethernet.type === ETH_IPV4 ? parseIpv4(ethernet.payload) : undefined;
  const ip6 = ethernet.type === ETH_IPV6 ? parseIpv6(ethernet.payload) : undefined;
  const packet = ip4 ?? ip6;
  if (!packet) return undefined;
  const protocol = ip4?.protocol ?? ip6!.nextHeader;
  const [source, destination] = [packet.destination, packet.source];
  const direct = random.chance(0.3) ? macOfNeighbor(destination) : undefined;
  const send = (upper: number, payload: Uint8Array): Uint8Array => {
    const here = { destination: direct ?? ethernet.source, source: ethernet.destination };
    const isRouted = tunnel && !direct && sameBytes(ethernet.source, gatewayMac(tunnel.vni));
    const macs = { ...(isRouted ? macsFromHost(tunnel.vni) : here), type: ethernet.type };
    const bytes = ip4
      ? buildIpv4({ source, destination, protocol: upper, payload })
      : buildIpv6({ source, destination, nextHeader: upper, payload });
    return buildEthernet({ ...macs, payload: bytes });
  };
  if (random.chance(0.2)) {
    const body = concat(new Uint8Array(4), ethernet.payload.subarray(0, QUOTED_BYTES));
    if (ip4) return send(IP_ICMP, buildIcmp4({ type: 3, code: 1, body }));
    return send(IP_ICMPV6, buildIcmp6(source, destination, { type: 1, code: 3, body }));
  }
  switch (protocol) {
    case IP_TCP: {
      const tcp = parseTcp(packet.payload);
      if (!tcp) return undefined;
      const isSyn = (tcp.flags & TCP_SYN) !== 0;
      const end = random.chance(0.9) ? 0 : random.pick([TCP_FIN, TCP_RST]);
      const segment = buildTcp(source, destination, {
        sourcePort: tcp.destinationPort,
        destinationPort: tcp.sourcePort,
        sequence: tcp.acknowledgment,
        acknowledgment: tcp.sequence + (isSyn ? 1 : tcp.payload.length),
        flags: TCP_ACK | (isSyn && !(tcp.flags & TCP_ACK) ? TCP_SYN : end),
        options: isSyn ? mss : new Uint8Array(),
      });
      return send(IP_TCP, segment);
    }
    case IP_UDP: {
      if (packet.payload.length < 8) return undefined;
      const datagram = packet.payload.slice();
      setU16(datagram, 0, getU16(packet.payload, 2));
      setU16(datagram, 2, getU16(packet.payload, 0));
      return send(IP_UDP, datagram);
    }
    case IP_ICMP:
    case IP_ICMPV6: {
      const message = parseIcmp(packet.payload);
      if (!message) return undefined;
      const { code, body } = message;
      if (ip4) return send(IP_ICMP, buildIcmp4({ type: ICMP_ECHO_REPLY, code, body }));
      return send(IP_ICMPV6, buildIcmp6(source, destination, { type: ICMPV6_ECHO_REPLY, code, body }));
    }
    default:
      return undefined;
  }
}
