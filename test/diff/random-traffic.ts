/**
 * Conversations in the world of `PipelineDecider`: what its workloads send each
 * other, to their gateway and outside, and what comes back from there. Few ends,
 * so that packets belong to each other.
 */
import { ICMP_ECHO_REPLY, ICMPV6_ECHO_REPLY, buildEchoBody, buildIcmp4, buildIcmp6 } from '../../src/wire/icmp.ts';
import { ETH_HEADER_BYTES } from '../../src/wire/ethernet.ts';
import { IP_ICMP, IP_ICMPV6 } from '../../src/wire/ipv4.ts';
import * as frames from '../support/frames.ts';
import type { Random } from '../support/random.ts';
import { OUTSIDE_PORT, outsideMacs, transitIps, workloads, type WorkloadAddresses } from './pipeline-decider.ts';

export interface Sent {
  readonly port: number;
  readonly frame: Uint8Array;
}

type Family = 'ip4' | 'ip6';

const remote = { ip4: '203.0.113.1', ip6: '2001:db8:7::1' };
const nowhere = { ip4: '172.16.0.9', ip6: 'fe01::9' };
const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];
const flagsOfTcp = [SYN, SYN | ACK, ACK, ACK, ACK, FIN | ACK, RST, RST | ACK];

export function randomTraffic(random: Random): Sent {
  const family = random.chance(0.6) ? 'ip4' : 'ip6';
  return random.chance(0.4) ? fromOutside(family, random) : fromWorkload(family, random);
}

function fromWorkload(family: Family, random: Random): Sent {
  const own = random.pick(workloads);
  const other = random.pick(workloads);
  const isLocal = other.vni === own.vni && random.chance(0.3);
  const [dstMac, dst] = isLocal ? [other.mac, other[family]] : [own.gatewayMac, beyond(family, other, random)];
  return { port: own.portNo, frame: packet({ srcMac: own.mac, dstMac, src: own[family], dst }, family, random) };
}

function beyond(family: Family, other: WorkloadAddresses, random: Random): string {
  return random.pick([remote[family], remote[family], remote[family], other[family], other[family], nowhere[family]]);
}

function fromOutside(family: Family, random: Random): Sent {
  const ends = { ...outsideMacs, src: remote[family], dst: transitIps[family] };
  return { port: OUTSIDE_PORT, frame: packet(ends, family, random) };
}

function packet(bare: frames.Ends, family: Family, random: Random): Uint8Array {
  const ttl = random.chance(0.05) ? 1 : 64;
  const ends = { ...bare, ip4: { ttl, dontFragment: random.chance(0.5) }, ip6: { hopLimit: ttl } };
  if (random.chance(0.12)) return icmpError(ends, family, random);
  const payload = random.bytes(random.pick([0, 1, 20, 120]));
  // Those of containers are kept by translation, where they are free.
  const [high, low] = [20_000 + random.int(2), random.pick([53, 80])];
  const [sourcePort, destinationPort] = random.chance(0.5) ? [high, low] : [low, high];
  switch (random.int(4)) {
    case 0:
      return echo(ends, family, high, payload, random.chance(0.5));
    case 1:
      return frames.udp(ends, sourcePort, destinationPort, payload);
    default: {
      const [sequence, acknowledgment] = [random.int(4), random.int(4)];
      const fields = { sourcePort, destinationPort, sequence, acknowledgment, flags: random.pick(flagsOfTcp), payload };
      return frames.tcp(ends, fields);
    }
  }
}

function echo(ends: frames.Ends, family: Family, id: number, data: Uint8Array, isReply: boolean): Uint8Array {
  if (!isReply) return frames.echo(ends, id, 1, data);
  const body = buildEchoBody(id, 1, data);
  return family === 'ip4' ? icmp(ends, family, ICMP_ECHO_REPLY, body) : icmp(ends, family, ICMPV6_ECHO_REPLY, body);
}

/** "Time exceeded", about a packet that went the other way. */
function icmpError(ends: frames.Ends, family: Family, random: Random): Uint8Array {
  const [sourcePort, destinationPort] = [20_000 + random.int(2), random.pick([53, 80])];
  const turned = { src: ends.dst!, dst: ends.src! };
  const fields = { sourcePort, destinationPort, sequence: 1, flags: ACK };
  const about = random.chance(0.5)
    ? frames.tcp(turned, fields)
    : frames.udp(turned, sourcePort, destinationPort, random.bytes(8));
  const quoted = about.subarray(ETH_HEADER_BYTES);
  return icmp(ends, family, family === 'ip4' ? 11 : 3, Uint8Array.of(0, 0, 0, 0, ...quoted));
}

function icmp(ends: frames.Ends, family: Family, type: number, body: Uint8Array): Uint8Array {
  if (family === 'ip4') return frames.ip(ends, IP_ICMP, buildIcmp4({ type, code: 0, body }));
  const [source, destination] = [frames.wireIp(ends.src!), frames.wireIp(ends.dst!)];
  return frames.ip(ends, IP_ICMPV6, buildIcmp6(source, destination, { type, code: 0, body }));
}
