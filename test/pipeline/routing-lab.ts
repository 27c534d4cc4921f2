/**
 * Routing, in a simulated overlay:
 *
 *   ┌ host a ────────────────────────┐           ┌ host b ─────────┐
 *   │ web (red)  db (blue)  fw (red) │  underlay │  far (blue)     │
 *   └────────────────────────────────┴───────────┴─────────────────┘
 *
 *   red 10.1.0.0/24, fd01::/64 ←── gateways .1, ::1 ──→ blue 10.2.0.0/24, fd02::/64
 */
import type { Test } from 'tap';
import type { Datapath, DatapathOptions, Injectable } from '../../src/datapath/datapath.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { formatMac, type Vni } from '../../src/flow/types.ts';
import type { RouteSpec } from '../../src/model/kinds/network.ts';
import { createSimulation, type SimulatedPort } from '../../src/simulation.ts';
import { gatewayMac } from '../../src/table/topology.ts';
import { getU32 } from '../../src/wire/bytes.ts';
import { parseEthernet } from '../../src/wire/ethernet.ts';
import { parseIcmp } from '../../src/wire/icmp.ts';
import { parseIpv4 } from '../../src/wire/ipv4.ts';
import { parseIpv6 } from '../../src/wire/ipv6.ts';

export const RED = 100;
export const BLUE = 200;
export const macs = {
  web: '02:00:00:00:00:01',
  db: '02:00:00:00:00:02',
  fw: '02:00:00:00:00:03',
  far: '02:00:00:00:00:04',
};
export const redGateway = formatMac(gatewayMac(RED as Vni));
export const blueGateway = formatMac(gatewayMac(BLUE as Vni));

type Open = (options: DatapathOptions) => Datapath & Injectable;
export const datapaths: Readonly<Record<string, Open>> = {
  native: (options) => openNativeDatapath({ ...options, threads: 0 }),
  reference: openReferenceDatapath,
};

export const toBlue: RouteSpec[] = [
  { to: '10.2.0.0/24', network: 'blue' },
  { to: 'fd02::/64', network: 'blue' },
];

export function lab(
  open: Open,
  redRoutes: readonly RouteSpec[] = toBlue,
  mtus: { readonly red?: number; readonly blue?: number } = {},
) {
  const net = createSimulation({ open });
  const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
  const red = ['10.1.0.0/24', 'fd01::/64'];
  for (const host of [a, b]) {
    host.createNetwork('red', RED, {
      subnets: red,
      routes: redRoutes,
      ...(mtus.red !== undefined && { mtu: mtus.red }),
    });
    host.createNetwork('blue', BLUE, {
      ...(mtus.blue !== undefined && { mtu: mtus.blue }),
      subnets: ['10.2.0.0/24', 'fd02::/64'],
      routes: [
        { to: '10.1.0.0/24', network: 'red' },
        { to: 'fd01::/64', network: 'red' },
      ],
    });
  }
  const web = a.attach({ name: 'web', network: 'red', mac: macs.web, addresses: ['10.1.0.2', 'fd01::2'] });
  const fw = a.attach({ name: 'fw', network: 'red', mac: macs.fw, addresses: ['10.1.0.3'], trust: true });
  const db = a.attach({ name: 'db', network: 'blue', mac: macs.db, addresses: ['10.2.0.2', 'fd02::2'] });
  const far = b.attach({ name: 'far', network: 'blue', mac: macs.far, addresses: ['10.2.0.9', 'fd02::9'] });
  const { forwarding } = a;
  const drops = (): Partial<Record<string, number>> => forwarding.datapath.counters().drops;
  return { net, web, fw, db, far, forwarding, drops, setRed, host: a, other: b };

  function setRed(routes: readonly RouteSpec[]): void {
    a.createNetwork('red', RED, { subnets: red, routes });
  }
}

export const fromWeb = { srcMac: macs.web, dstMac: redGateway, src: '10.1.0.2' };
export const fromWeb6 = { srcMac: macs.web, dstMac: redGateway, src: 'fd01::2' };

/** The only frame that came out of a port. */
export function only(t: Test, port: SimulatedPort): Uint8Array {
  const frames = port.received.splice(0);
  t.equal(frames.length, 1);
  return frames[0] ?? new Uint8Array(14);
}

/** The type and code of the ICMP error in a frame, who sent it, and what it quotes. */
export function icmpError(frame: Uint8Array) {
  const { payload, source } = parseEthernet(frame)!;
  const [v4, v6] = [parseIpv4(payload), parseIpv6(payload)];
  const packet = (v4 ?? v6)!;
  const { type, code, body } = parseIcmp(packet.payload)!;
  return {
    type,
    code,
    mac: formatMac(source),
    from: [...packet.source].join('.'),
    mtu: getU32(body, 0),
    quoted: body.subarray(4),
  };
}
