/**
 * The way outside, in a simulated switch:
 *
 *   ┌ host ─────────────────────────────┐
 *   │ web (red)  db (red)     weft ─────┼─ link to the host ─ everywhere
 *   └───────────────────────────────────┘
 *
 *   red 10.1.0.0/24, fd01::/64, gateways .1, ::1; transit 169.254.77.2, fd77::2
 */
import type { Test } from 'tap';
import { formatMac, parseIp, type Vni } from '../../src/flow/types.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { createSimulation, type SimulatedPort } from '../../src/simulation.ts';
import { gatewayMac, OUTSIDE_HOST_MAC, OUTSIDE_MAC, publishedId } from '../../src/table/topology.ts';
import { checksum, pseudoSum } from '../../src/wire/checksum.ts';
import { parseEthernet } from '../../src/wire/ethernet.ts';
import { buildIcmp4, buildIcmp6, parseIcmp } from '../../src/wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP, parseIpv4 } from '../../src/wire/ipv4.ts';
import { parseIpv6 } from '../../src/wire/ipv6.ts';
import { ip, wireIp, type Ends } from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';

export const RED = 100;
export const [SYN, ACK, FIN, RST] = [2, 16, 1, 4];
export const web = { mac: '02:00:00:00:00:01', ip4: '10.1.0.2', ip6: 'fd01::2' };
export const db = { mac: '02:00:00:00:00:02', ip4: '10.1.0.3', ip6: 'fd01::3' };
export const gateway = formatMac(gatewayMac(RED as Vni));
export const transit = { ip4: '169.254.77.2', ip6: 'fd77::2' };
export const remote = { ip4: '203.0.113.9', ip6: '2001:db8::9' };

export const families = ['ip4', 'ip6'] as const;
type Family = (typeof families)[number];

export const datapaths = {
  native: (options: Parameters<typeof openReferenceDatapath>[0]) => openNativeDatapath({ ...options, threads: 0 }),
  reference: openReferenceDatapath,
};

export function lab(
  open: (typeof datapaths)['native'],
  options: { readonly connectionQuota?: number; readonly mtu?: number } = {},
) {
  const net = createSimulation({ open, ...options });
  const host = net.host('a', '192.0.2.1');
  host.createNetwork('red', RED, {
    subnets: ['10.1.0.0/24', 'fd01::/64'],
    outside: true,
    ...(options.mtu !== undefined && { mtu: options.mtu }),
  });
  const attach = (name: string, { mac, ip4, ip6 }: typeof web) =>
    host.attach({ name, network: 'red', mac, addresses: [ip4, ip6] });
  const ports = { web: attach('web', web), db: attach('db', db) };
  const published = new Map([
    [
      publishedId(IP_TCP, 8080),
      { endpoint: 'db', vni: RED as Vni, addresses: [parseIp(db.ip4), parseIp(db.ip6)], l4Port: 80 },
    ],
  ]);
  const outside = host.openOutside({ transit: [transit.ip4, transit.ip6], published });
  const { forwarding } = host;
  const { connections } = forwarding.tables;
  return {
    net,
    host,
    ...ports,
    outside,
    connections,
    drops: (): Partial<Record<string, number>> => forwarding.datapath.counters().drops,
    upcalls: (): number => forwarding.datapath.counters().upcalls,
    states: () => [...connections.entries()].map(({ state }) => state),
    /** The port of the first connection at the transit address. */
    natPort: (): number => [...connections.entries()][0]!.translated.sourcePort,
  };
}

export const leaving = (from: typeof web, family: Family): Ends => ({
  srcMac: from.mac,
  dstMac: gateway,
  src: from[family],
  dst: remote[family],
});
export const entering = (family: Family): Ends => ({
  srcMac: formatMac(OUTSIDE_HOST_MAC),
  dstMac: formatMac(OUTSIDE_MAC),
  src: remote[family],
  dst: transit[family],
});

/** The only frame that came out of a port. */
export function only(t: Test, port: SimulatedPort): Uint8Array {
  const frames = port.received.splice(0);
  t.equal(frames.length, 1);
  return frames[0] ?? new Uint8Array(60);
}

/** Addresses as text, ports and checksum of a TCP or UDP frame; also its MACs. */
export function seen(frame: Uint8Array) {
  const { source, destination, payload } = parseEthernet(frame)!;
  const packet = (parseIpv4(payload) ?? parseIpv6(payload))!;
  const { sourcePort, destinationPort, checksum: sum } = parsePacket(frame);
  return {
    macs: [formatMac(source), formatMac(destination)],
    from: [[...packet.source].join('.'), sourcePort],
    to: [[...packet.destination].join('.'), destinationPort],
    checksum: sum,
  };
}

export const text = (address: string): string => [...wireIp(address)].join('.');

/** An ICMP message of either family with a correct checksum. */
export function icmp(ends: Ends, family: Family, type: number, code: number, body: Uint8Array): Uint8Array {
  if (family === 'ip4') return ip(ends, IP_ICMP, buildIcmp4({ type, code, body }));
  return ip(ends, IP_ICMPV6, buildIcmp6(wireIp(ends.src!), wireIp(ends.dst!), { type, code, body }));
}

/** Parses an ICMP frame and checks its checksum. */
export function icmpSeen(t: Test, frame: Uint8Array) {
  const { payload } = parseEthernet(frame)!;
  const v4 = parseIpv4(payload);
  const packet = (v4 ?? parseIpv6(payload))!;
  const seed = v4 ? 0 : pseudoSum(packet.source, packet.destination, IP_ICMPV6, packet.payload.length);
  t.equal(checksum(packet.payload, seed), 0, 'the ICMP checksum is right');
  if (v4) t.equal(checksum(payload.subarray(0, 20)), 0, 'the IPv4 checksum is right');
  const { type, code, body } = parseIcmp(packet.payload)!;
  return { from: [...packet.source].join('.'), to: [...packet.destination].join('.'), type, code, body };
}
