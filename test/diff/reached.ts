/**
 * What a differential run has reached, counted by what is visible from outside: how the frames that came
 * out differ from those that went in, and whose packets flows and connections have counted. A run in
 * which nothing is translated compares no translation.
 *
 * Frames with tags, IPv4 options or extension headers are not examined.
 */
import type { FlowEntry } from '../../src/datapath/datapath.ts';
import { opcodes } from '../../src/flow/action.ts';
import { OUTSIDE, type ConnectionRecords } from '../../src/flow/connection.ts';
import type { DropReason } from '../../src/flow/reason.ts';
import { getU16 } from '../../src/wire/bytes.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { EXT_FRAGMENT } from '../../src/wire/ipv6.ts';

const ETHERNET_BYTES = 14;
const TCP_BYTES = 20;
/** Length of an ICMP header, behind which an error quotes. */
const ICMP_BYTES = 8;
/** The last byte of its addresses. */
const REMOTE_BACKEND = 7;
const SYN = 2;
const RST = 4;

const translation = ['translated', 'translated, original direction', 'translated, reply direction'];
const answers = ['answered by an ICMP error', 'answered by a TCP reset'];
const services = [
  'to a backend',
  'from a backend',
  'to a backend that is its client',
  'to a backend from outside',
  ...['in by another host, to a backend', 'in by another host, from a backend'],
  ...['in here, to another host', 'in here, from another host'],
];
const effects = [
  ...translation,
  'an ICMP error translated',
  'another DSCP',
  'routed',
  'echo answered',
  'cut into fragments',
];

/** What a run must reach, by decider: with 200,000 frames, or with 60,000. */
const toReach = {
  random: {
    effects: [
      ...effects,
      ...answers,
      'out of order: fragments released',
      ...Object.keys(opcodes).map((op) => `hits of ${op}`),
    ],
    drops: [
      'frame_too_short',
      'bad_vnet_hdr',
      'arp_malformed',
      'ipv4_malformed',
      'ipv6_malformed',
      'ipv6_ext_headers',
      'l4_truncated',
      'nd_malformed',
      'ipv4_mapped',
      'fragment_malformed',
      'fragment_tiny',
      'ipv4_checksum',
      'fragment_overlap',
      'fragment_duplicate',
      'fragment_limit',
      'fragment_timeout',
      'vxlan_malformed',
      'vxlan_own_address',
      'ecn_ce_not_ect',
      'upcall_queue_full',
      'upcall_parked_full',
      'upcall_lost',
      'rate_limit_ingress',
      'rate_limit_egress',
      'storm_control',
      'rate_limit_sockets',
      'port_gone',
      'underlay_missing',
      'too_big',
      'connection_gone',
      'icmp_unrelated',
      'half_open_limit',
      'hook_rate_limit',
    ],
  },
  pipeline: {
    effects: [
      ...effects,
      'clamped',
      ...services,
      'answered by an ICMP error',
      ...['nat', 'mtu', 'route', 'clamp', 'echo', 'output', 'encap', 'drop', 'refuse', 'balance'].map(
        (op) => `hits of ${op}`,
      ),
    ],
    drops: [
      'ipv4_checksum',
      'too_big',
      'ttl_exceeded',
      'no_connection',
      'icmp_unrelated',
      'spoof_ip4',
      'spoof_ip6',
      'spoof_mac',
      'rogue_ra',
      'vlan_not_carried',
      'mac_control',
      'ethertype_llc',
      'ethertype_rarp',
      'ethertype_refused',
      'vxlan_source_local',
      'vxlan_source_elsewhere',
      'service_unknown',
      'service_no_backend',
      'service_local',
      'service_full',
    ],
  },
} as const satisfies Record<string, { readonly effects: readonly string[]; readonly drops: readonly DropReason[] }>;

export type DeciderName = keyof typeof toReach;

/** How often a run has reached each thing that it is for. */
export function wanted(
  decider: DeciderName,
  { reached, drops }: { readonly reached: ReadonlyMap<string, number>; readonly drops: ReadonlyMap<string, number> },
): [what: string, count: number][] {
  const of =
    (counts: ReadonlyMap<string, number>) =>
    (what: string): [string, number] => [what, counts.get(what) ?? 0];
  return [...toReach[decider].effects.map(of(reached)), ...toReach[decider].drops.map(of(drops))];
}

export class Reached {
  readonly counts = new Map<string, number>();

  add(what: string, count = 1): void {
    if (count > 0) this.counts.set(what, (this.counts.get(what) ?? 0) + count);
  }

  addAll(other: Reached): void {
    for (const [what, count] of other.counts) this.add(what, count);
  }

  /** One frame came out of a port when another went in. */
  frame(input: Uint8Array, output: Uint8Array): void {
    const [before, after] = [packetOf(input), packetOf(output)];
    if (before && after && before.version === after.version) for (const what of changes(before, after)) this.add(what);
  }

  /** A burst went in, and these frames came out meanwhile; fragments that waited for their first one follow it. */
  burst(inputs: readonly Uint8Array[], outputs: readonly Uint8Array[]): void {
    const texts = inputs.map((frame) => Buffer.from(frame).toString('latin1'));
    const order = outputs.map((frame) => texts.indexOf(Buffer.from(frame).toString('latin1')));
    const released = order.filter((index, i) => index >= 0 && order.slice(0, i).some((earlier) => earlier > index));
    this.add('out of order: fragments released', released.length);
  }

  /** The current flows. They are looked at repeatedly: a count says that something was reached, not how often. */
  flows(flows: Iterable<FlowEntry>): void {
    for (const { actions, packets } of flows) {
      for (const op of new Set(actions.map((action) => action.op))) this.add(`hits of ${op}`, packets);
    }
  }

  /** The same for connections. */
  connections(connections: ConnectionRecords): void {
    for (let slot = 0; slot < connections.count; slot++) {
      if (connections.generation(slot) === 0) continue;
      this.add('translated, original direction', connections.half(slot, false).packets);
      this.add('translated, reply direction', connections.half(slot, true).packets);
      const { via, places, translated } = connections.read(slot);
      const [original, reply] = [connections.half(slot, false).packets, connections.half(slot, true).packets];
      if (via) {
        this.add('in by another host, to a backend', original);
        this.add('in by another host, from a backend', reply);
      } else if (places[0] === OUTSIDE && translated.destination.at(-1) === REMOTE_BACKEND) {
        this.add('in here, to another host', original);
        this.add('in here, from another host', reply);
      }
    }
  }
}

interface Packet {
  readonly version: number;
  readonly dscp: number;
  readonly ttl: number;
  /** Source and destination, in hex. */
  readonly addresses: string;
  readonly isFragment: boolean;
  readonly protocol: number;
  readonly l4: Buffer;
}

function packetOf(frame: Uint8Array): Packet | undefined {
  const packet = Buffer.from(frame.buffer, frame.byteOffset, frame.length).subarray(ETHERNET_BYTES);
  const type = frame.length < ETHERNET_BYTES ? 0 : getU16(frame, ETHERNET_BYTES - 2);
  if (type === 0x0800 && packet.length >= 20 && packet[0] === 0x45) {
    return {
      version: 4,
      dscp: packet[1]! >> 2,
      ttl: packet[8]!,
      addresses: packet.toString('hex', 12, 20),
      isFragment: packet.readUInt16BE(6) % 0x4000 !== 0,
      protocol: packet[9]!,
      l4: packet.subarray(20),
    };
  }
  if (type !== 0x86dd || packet.length < 40) return undefined;
  return {
    version: 6,
    dscp: (packet.readUInt16BE(0) >> 6) & 63,
    ttl: packet[7]!,
    addresses: packet.toString('hex', 8, 40),
    isFragment: packet[6] === EXT_FRAGMENT,
    protocol: packet[6]!,
    l4: packet.subarray(40),
  };
}

function* changes(before: Packet, after: Packet): Generator<string> {
  if (!before.isFragment && after.isFragment) yield 'cut into fragments';
  if (isError(after) && !isError(before)) {
    if (after.l4.indexOf(before.l4.subarray(0, ICMP_BYTES)) > ICMP_BYTES) yield 'answered by an ICMP error';
    return;
  }
  if (before.protocol !== after.protocol) return;
  if (isReset(after) && !isReset(before)) {
    yield 'answered by a TCP reset';
    return;
  }
  if (after.ttl === before.ttl - 1) yield 'routed';
  if (after.dscp !== before.dscp) yield 'another DSCP';
  if (isError(before)) {
    if (!before.l4.subarray(ICMP_BYTES).equals(after.l4.subarray(ICMP_BYTES))) yield 'an ICMP error translated';
  } else if (before.l4[0] === echoes(before).request && after.l4[0] === echoes(before).reply && isIcmp(before)) {
    yield 'echo answered';
  } else if (before.addresses !== after.addresses) {
    if (isIcmp(before) || before.protocol === IP_TCP || before.protocol === IP_UDP) yield 'translated';
    const [wasToService, isFromService] = [isVip(destinationOf(before)), isVip(sourceOf(after))];
    if (wasToService) yield isFromService ? 'to a backend that is its client' : 'to a backend';
    else if (isFromService) yield 'from a backend';
    if (isToNodePort(before)) yield 'to a backend from outside';
  }
  if (before.protocol === IP_TCP && before.l4.length >= TCP_BYTES && before.l4[13]! & SYN) {
    const options = (packet: Packet): Buffer => packet.l4.subarray(TCP_BYTES, (packet.l4[12]! >> 4) * 4);
    if (!options(before).equals(options(after))) yield 'clamped';
  }
}

const sourceOf = ({ addresses }: Packet): string => addresses.slice(0, addresses.length / 2);
const destinationOf = ({ addresses }: Packet): string => addresses.slice(addresses.length / 2);

/** Of the ranges in `services.ts`. */
const isVip = (address: string): boolean => address.startsWith('0a60') || address.startsWith('fd96');

/** Of the transit addresses in `pipeline-decider.ts`, where only UDP port 53 is published by an endpoint. */
function isToNodePort(packet: Packet): boolean {
  const { protocol, l4 } = packet;
  const isToTransit = ['c6336402', '20010db8009900000000000000000002'].includes(destinationOf(packet));
  return isToTransit && (protocol === IP_TCP || protocol === IP_UDP) && getU16(l4, 2) === 80;
}

const isIcmp = ({ version, protocol }: Packet): boolean => protocol === (version === 4 ? IP_ICMP : IP_ICMPV6);

const echoes = ({ version }: Packet): { request: number; reply: number } =>
  version === 4 ? { request: 8, reply: 0 } : { request: 128, reply: 129 };

function isReset({ protocol, l4 }: Packet): boolean {
  return protocol === IP_TCP && l4.length >= TCP_BYTES && (l4[13]! & RST) !== 0;
}

function isError(packet: Packet): boolean {
  if (!isIcmp(packet) || packet.l4.length < ICMP_BYTES) return false;
  const type = packet.l4[0]!;
  return packet.version === 4 ? [3, 11, 12].includes(type) : type >= 1 && type <= 4;
}
