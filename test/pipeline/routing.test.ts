/**
 * Routing, in a simulated overlay, on both datapaths:
 *
 *   ┌ host a ────────────────────────┐           ┌ host b ─────────┐
 *   │ web (red)  db (blue)  fw (red) │  underlay │  far (blue)     │
 *   └────────────────────────────────┴───────────┴─────────────────┘
 *
 *   red 10.1.0.0/24, fd01::/64 ←── gateways .1, ::1 ──→ blue 10.2.0.0/24, fd02::/64
 */
import t, { type Test } from 'tap';
import type { Datapath, DatapathOptions, Injectable } from '../../src/datapath/datapath.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { formatMac, parseIp, parseMac, sameBytes, type Vni } from '../../src/flow/types.ts';
import type { RouteSpec } from '../../src/model/kinds/network.ts';
import { createSimulation, type SimulatedPort } from '../../src/simulation.ts';
import { gatewayMac } from '../../src/table/topology.ts';
import { parseArp } from '../../src/wire/arp.ts';
import { concat, getU16, getU32 } from '../../src/wire/bytes.ts';
import { checksum, pseudoSum } from '../../src/wire/checksum.ts';
import { parseEthernet } from '../../src/wire/ethernet.ts';
import { parseIcmp } from '../../src/wire/icmp.ts';
import { parseIpv4 } from '../../src/wire/ipv4.ts';
import { parseIpv6 } from '../../src/wire/ipv6.ts';
import { parseNeighbor } from '../../src/wire/nd.ts';
import {
  advertisement,
  arpReply,
  arpRequest,
  echo,
  ip,
  solicitation,
  tcp,
  udp,
  wireIp,
  type Ends,
} from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { fragmentOf, partsOf } from '../support/random-fragments.ts';

const RED = 100;
const BLUE = 200;
const macs = {
  web: '02:00:00:00:00:01',
  db: '02:00:00:00:00:02',
  fw: '02:00:00:00:00:03',
  far: '02:00:00:00:00:04',
};
const redGateway = formatMac(gatewayMac(RED as Vni));
const blueGateway = formatMac(gatewayMac(BLUE as Vni));

type Open = (options: DatapathOptions) => Datapath & Injectable;
const datapaths: Readonly<Record<string, Open>> = {
  native: (options) => openNativeDatapath({ ...options, threads: 0 }),
  reference: openReferenceDatapath,
};

const toBlue: RouteSpec[] = [
  { to: '10.2.0.0/24', network: 'blue' },
  { to: 'fd02::/64', network: 'blue' },
];

function lab(
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

interface Carrier {
  readonly mac: string;
  readonly port: SimulatedPort;
}

interface IpPart {
  readonly at: number;
  readonly payload: Uint8Array;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly packetId: number;
}

/** Of an IPv4 packet, or of IPv6 with no extension header but a fragment's: what of its datagram it has. */
function partOfIp(frame: Uint8Array): IpPart {
  const packet = parseEthernet(frame)!.payload;
  const v4 = parseIpv4(packet);
  if (v4) {
    const { fragmentOffset: at, payload, source, destination, id: packetId } = v4;
    if (checksum(packet.subarray(0, 20)) !== 0) throw new Error('IPv4 header checksum');
    return { at, payload, source, destination, packetId };
  }
  const { payload, source, destination, nextHeader } = parseIpv6(packet)!;
  if (nextHeader !== 44) return { at: 0, payload, source, destination, packetId: 0 };
  const at = getU16(payload, 2) & 0xfff8;
  return { at, payload: payload.subarray(8), source, destination, packetId: getU32(payload, 4) };
}

/** ARP, or a neighbor solicitation. */
function isQuestion(frame: Uint8Array): boolean {
  const { type, payload } = parseEthernet(frame)!;
  return type === 0x0806 || parseIpv6(payload)?.payload[0] === 135;
}

const fromWeb = { srcMac: macs.web, dstMac: redGateway, src: '10.1.0.2' };
const fromWeb6 = { srcMac: macs.web, dstMac: redGateway, src: 'fd01::2' };

/** The only frame that came out of a port, and no other. */
function only(t: Test, port: SimulatedPort): Uint8Array {
  const frames = port.received.splice(0);
  t.equal(frames.length, 1);
  return frames[0] ?? new Uint8Array(14);
}

/** Type and code of the ICMP error in a frame, who sent it, and what it quotes. */
function icmpError(frame: Uint8Array) {
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

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(`routing on ${name}`, async (t) => {
    t.test('from one network to another on the same host', async (t) => {
      const { net, web, db, forwarding } = lab(open);
      for (const [ends, dst] of [
        [fromWeb, '10.2.0.2'],
        [fromWeb6, 'fd02::2'],
      ] as const) {
        for (let i = 0; i < 2; i++) {
          web.send(udp({ ...ends, dst }, 1000, 2000, Uint8Array.of(1, 2, 3)));
          const frame = only(t, db);
          const { destination, source } = parseEthernet(frame)!;
          t.same([formatMac(destination), formatMac(source)], [macs.db, blueGateway]);
          const packet = parsePacket(frame);
          t.same([packet.ttl, packet.checksum, [...packet.payload]], [63, 'good', [1, 2, 3]]);
        }
      }
      t.equal(forwarding.datapath.counters().upcalls, 2, 'the second one of each is the flow cache’s');
      net.close();
    });

    t.test('to another host: the first frame waits until its container has said its MAC', async (t) => {
      const { net, web, far } = lab(open);
      web.send(udp({ ...fromWeb, dst: '10.2.0.9' }, 1, 2));
      const asked = parseEthernet(only(t, far))!;
      const request = parseArp(asked.payload)!;
      t.same([...request.senderIp], [10, 2, 0, 1], 'the gateway asks, whom its neighbors know');
      t.same([formatMac(asked.source), formatMac(request.senderMac)], [blueGateway, blueGateway]);
      far.send(arpReply({ srcMac: macs.far, dstMac: blueGateway, src: '10.2.0.9', dst: '10.2.0.1' }));
      t.equal(parsePacket(only(t, far)).ttl, 63);

      web.send(udp({ ...fromWeb6, dst: 'fd02::9' }, 1, 2));
      const solicited = parseEthernet(only(t, far))!;
      const host = formatMac(solicited.source);
      const lla = { type: 2, data: parseMac(macs.far) };
      const asker = parseIpv6(solicited.payload)!;
      t.equal(asker.source[0], 0xfe, 'from the host’s own link-local address');
      far.send(
        advertisement({
          srcMac: macs.far,
          dstMac: host,
          src: 'fd02::9',
          dst: 'fe80::1',
          target: 'fd02::9',
          options: [lla],
        }),
      );
      t.equal(parsePacket(only(t, far)).ttl, 63);
      net.close();
    });

    t.test('a neighbor in use is asked again, and forgotten when it does not answer', async (t) => {
      const { net, web, far, drops } = lab(open);
      const send = (): void => web.send(udp({ ...fromWeb, dst: '10.2.0.9' }, 1, 2));
      send();
      only(t, far);
      far.send(arpReply({ srcMac: macs.far, dstMac: blueGateway, src: '10.2.0.9', dst: '10.2.0.1' }));
      far.received.length = 0;
      const asked: string[] = [];
      for (let second = 0; second < 70; second++) {
        net.advance(1000);
        send();
        const requests = far.received.splice(0).map((frame) => parseEthernet(frame)!);
        asked.push(...requests.filter(({ type }) => type === 0x0806).map(({ destination }) => formatMac(destination)));
      }
      t.same(asked.slice(0, 3), [macs.far, macs.far, macs.far], 'first by itself');
      t.ok(asked.length >= 9 && asked.length <= 15, `asked ${asked.length} times: ever more seldom`);
      t.same([...new Set(asked.slice(3))], ['ff:ff:ff:ff:ff:ff'], 'then everyone');
      t.ok((drops()['neighbor_unresolved'] ?? 0) > 0);
      net.close();
    });

    t.test('a neighbor that answers when it is asked by itself bothers nobody else', async (t) => {
      const { net, web, far } = lab(open);
      for (const [ends, dst, type] of [
        [fromWeb, '10.2.0.9', 0x0806],
        [fromWeb6, 'fd02::9', 0x86dd],
      ] as const) {
        const send = (): void => web.send(udp({ ...ends, dst }, 1, 2));
        const answer = (host: string): void => {
          const lla = { type: 2, data: parseMac(macs.far) };
          const to = { srcMac: macs.far, dstMac: host, src: dst };
          if (type === 0x0806) far.send(arpReply({ ...to, dst: '10.2.0.1' }));
          else far.send(advertisement({ ...to, dst: 'fe80::1', target: dst, options: [lla] }));
        };
        far.received.length = 0;
        send();
        answer(formatMac(parseEthernet(only(t, far))!.source));
        far.received.length = 0;
        const asked: string[] = [];
        for (let second = 0; second < 100; second++) {
          net.advance(1000);
          for (const frame of far.received.splice(0)) {
            const { destination, source, payload, type: sent } = parseEthernet(frame)!;
            if (sent !== type || parseIpv6(payload)?.nextHeader === 17) continue;
            asked.push(formatMac(destination));
            answer(formatMac(source));
          }
          send();
        }
        t.same(asked, [macs.far, macs.far, macs.far], dst);
      }
      net.close();
    });

    t.test(
      'an address that a container may carry besides its own: reached, as next hop too, and followed when it moves',
      async (t) => {
        const vip = { v4: '10.2.0.100', v6: 'fd02::100' };
        const { net, web, db, far, forwarding, drops, host } = lab(open, [
          ...toBlue,
          { to: '10.9.0.0/16', network: 'blue', via: [vip.v4] },
          { to: 'fd09::/64', network: 'blue', via: [vip.v6] },
        ]);
        const carries = { network: 'blue', allowedAddresses: [vip.v4, vip.v6] };
        const [one, two] = ['02:00:00:00:00:11', '02:00:00:00:00:12'].map((mac, n) => ({
          mac,
          port: host.attach({ name: `lb${n}`, mac, addresses: [`10.2.0.1${n}`, `fd02::1${n}`], ...carries }),
        })) as [Carrier, Carrier];
        const everybody = [web, db, far, one.port, two.port];
        const carrier = { '4': one, '6': one };
        for (const [family, dst] of [
          ['4', vip.v4],
          ['6', vip.v6],
          ['4', '10.9.0.1'],
          ['6', 'fd09::1'],
        ] as const) {
          const send = (): void => web.send(udp({ ...(family === '4' ? fromWeb : fromWeb6), dst }, 1, 2));
          for (const { received } of everybody) received.length = 0;
          send();
          if (carrier[family].port.received.length > 0 && isQuestion(carrier[family].port.received[0]!)) {
            const asked = parseEthernet(only(t, one.port))!;
            t.equal(two.port.received.splice(0).length, 1, 'all that may carry it are asked');
            t.equal(db.received.length, 0, 'and no other container of this host');
            one.port.send(answers(one.mac, formatMac(asked.source), family));
          }
          t.equal(parsePacket(only(t, carrier[family].port)).ttl, 63, `${dst} by the one that answered`);
          const moves = [two, one, two, one];
          for (const to of moves) {
            to.port.send(announces(to.mac, family));
            for (const { received } of everybody) received.length = 0;
            for (let again = 0; again < 2; again++) {
              send();
              t.equal(parsePacket(only(t, to.port)).ttl, 63, `${dst} moved`);
            }
            t.equal(
              everybody.reduce((sum, { received }) => sum + received.length, 0),
              0,
              'and nowhere else',
            );
          }
          carrier[family] = one;
        }
        const before = forwarding.datapath.counters().upcalls;
        for (let i = 0; i < 5; i++) one.port.send(announces(one.mac, '4'));
        t.ok(forwarding.datapath.counters().upcalls - before <= 1, 'what is no news is cached');
        for (const { received } of everybody) received.length = 0;
        db.send(announces(macs.db, '4'));
        web.send(udp({ ...fromWeb, dst: vip.v4 }, 1, 2));
        t.equal(only(t, one.port).length, 42, 'a container that may not carry it says so in vain');
        t.equal(drops()['spoof_arp'], 1);

        host.detach('lb0');
        two.port.received.length = 0;
        web.send(udp({ ...fromWeb, dst: vip.v4 }, 1, 2));
        t.ok(isQuestion(only(t, two.port)), 'it has gone: asked anew');
        net.close();

        function answers(mac: string, to: string, family: '4' | '6'): Uint8Array {
          if (family === '4') return arpReply({ srcMac: mac, dstMac: to, src: vip.v4, dst: '10.2.0.1' });
          const options = [{ type: 2, data: parseMac(mac) }];
          return advertisement({ srcMac: mac, dstMac: to, src: vip.v6, dst: 'fe80::1', target: vip.v6, options });
        }
        function announces(mac: string, family: '4' | '6'): Uint8Array {
          if (family === '4') return arpRequest({ srcMac: mac, src: vip.v4, dst: vip.v4 });
          const options = [{ type: 2, data: parseMac(mac) }];
          const to = { dstMac: '33:33:00:00:00:01', dst: 'ff02::1' };
          return advertisement({ srcMac: mac, src: vip.v6, ...to, target: vip.v6, options });
        }
      },
    );

    t.test('an address that moves to another host is followed by what its new holder announces there', async (t) => {
      const { net, web, far, other } = lab(open);
      const vip = { network: 'blue', addresses: ['10.2.0.20'], allowedAddresses: ['10.2.0.100'] };
      const there = other.attach({ name: 'lb', mac: '02:00:00:00:00:21', ...vip });
      const c = net.host('c', '192.0.2.3');
      c.createNetwork('blue', BLUE, { subnets: ['10.2.0.0/24', 'fd02::/64'] });
      const yonder = c.attach({ name: 'lb', mac: '02:00:00:00:00:22', ...vip, addresses: ['10.2.0.21'] });
      const send = (): void => web.send(udp({ ...fromWeb, dst: '10.2.0.100' }, 1, 2));
      const announce = (from: SimulatedPort, srcMac: string): void =>
        from.send(arpRequest({ srcMac, src: '10.2.0.100', dst: '10.2.0.100' }));
      send();
      const sends: readonly (readonly [SimulatedPort, string])[] = [
        [there, '02:00:00:00:00:21'],
        [yonder, '02:00:00:00:00:22'],
        [there, '02:00:00:00:00:21'],
      ];
      for (const [port, mac] of sends) {
        for (const { received } of [there, yonder, far]) received.length = 0;
        announce(port, mac);
        if (port.received.length === 0) send();
        t.equal(parsePacket(only(t, port)).ttl, 63, `at ${mac}`);
      }
      net.close();
    });

    t.test('what nobody has asked for is not learned', async (t) => {
      const { net, far, db, forwarding } = lab(open);
      for (let n = 0; n < 50; n++) {
        const srcMac = macs.far;
        far.send(arpReply({ srcMac, dstMac: blueGateway, src: '10.2.0.9', dst: '10.2.0.1' }));
        far.send(arpRequest({ srcMac, src: '10.2.0.9', dst: `10.2.0.${100 + n}` }));
      }
      t.equal(forwarding.tables.neighbors.isWanted(BLUE as Vni, parseIp('10.2.0.9')), false);
      t.equal(db.received.length, 50, 'it is bridged all the same');
      net.close();
    });

    t.test('nobody answers: the sender is told after three requests', async (t) => {
      const { net, web, far, drops } = lab(open);
      web.send(udp({ ...fromWeb, dst: '10.2.0.77' }, 1, 2));
      for (let i = 0; i < 2; i++) net.advance(1000);
      t.equal(far.received.length, 3);
      t.equal(web.received.length, 0);
      net.advance(1000);
      t.match(icmpError(only(t, web)), { type: 3, code: 1, mac: redGateway, from: '10.1.0.1' });
      web.send(udp({ ...fromWeb, dst: '10.2.0.77' }, 1, 2));
      t.match(icmpError(only(t, web)), { type: 3, code: 1 }, 'at once, for a while');
      t.same(drops(), { neighbor_unresolved: 2 });
      const asked: number[] = [];
      for (let second = 0; second < 120; second++) {
        net.advance(1000);
        far.received.length = 0;
        web.send(udp({ ...fromWeb, dst: '10.2.0.77' }, 1, 2));
        if (far.received.length > 0) asked.push(second);
      }
      const pauses = asked.slice(1).map((at, n) => at - asked[n]!);
      t.equal(asked[0], 2, 'asked anew after 3 s');
      t.same(pauses, [9, 15, 27, 27, 27], 'and ever more seldom');
      net.close();
    });

    t.test('what ends at the gateway has a reason, and an ICMP error says it', async (t) => {
      const { net, web, drops } = lab(open, [
        ...toBlue,
        { to: '10.3.0.0/16', type: 'blackhole' },
        { to: '10.3.1.0/24', type: 'unreachable' },
        { to: '10.4.0.0/16', type: 'prohibit' },
        { to: '10.5.0.0/16', network: 'green' },
      ]);
      const cases = [
        ['ttl_exceeded', { dst: '10.2.0.2', ip4: { ttl: 1 } }, [11, 0]],
        ['no_route', { dst: '10.9.0.1' }, [3, 0]],
        ['no_route', { dst: '10.5.0.1' }, [3, 0]],
        ['route_blackhole', { dst: '10.3.0.1' }, undefined],
        ['route_unreachable', { dst: '10.3.1.1' }, [3, 1]],
        ['route_prohibit', { dst: '10.4.0.1' }, [3, 13]],
        ['gateway_refused', { dst: '10.1.0.1' }, [3, 3]],
        ['martian', { dst: '224.0.0.5' }, undefined],
        ['martian', { dst: '169.254.169.254' }, [3, 0]],
        ['martian', { dst: '240.0.0.1' }, [3, 0]],
      ] as const;
      for (const [reason, ends, error] of cases) {
        const before = drops()[reason] ?? 0;
        const frame = udp({ ...fromWeb, ...ends }, 33_434, 33_435, new Uint8Array(600));
        web.send(frame);
        t.equal(drops()[reason], before + 1, reason);
        if (!error) {
          t.equal(web.received.length, 0, reason);
          continue;
        }
        const told = icmpError(only(t, web));
        t.same([told.type, told.code, told.mac, told.from], [...error, redGateway, '10.1.0.1'], reason);
        t.same([...told.quoted], [...frame.subarray(14, 14 + told.quoted.length)], `${reason}: quotes the packet`);
        t.ok(told.quoted.length >= 28);
      }
      const cases6 = [
        ['ttl_exceeded', { dst: 'fd02::2', ip6: { hopLimit: 1 } }, [3, 0]],
        ['no_route', { dst: 'fd09::1' }, [1, 0]],
        ['gateway_refused', { dst: 'fd01::1' }, [1, 4]],
      ] as const;
      for (const [reason, ends, error] of cases6) {
        web.send(udp({ ...fromWeb6, ...ends }, 33_434, 33_435));
        const told = icmpError(only(t, web));
        t.same([told.type, told.code], error, reason);
      }
      net.close();
    });

    t.test('an IPv4 header with a wrong checksum is believed by no router, and answered by none', async (t) => {
      const { net, web, fw, db, far, drops, forwarding } = lab(open, toBlue, { red: 1500, blue: 1280 });
      const large = new Uint8Array(1400);
      const packets = [
        udp({ ...fromWeb, dst: '10.2.0.2' }, 1, 2),
        udp({ ...fromWeb, dst: '10.2.0.2', ip4: { ttl: 1 } }, 1, 2),
        udp({ ...fromWeb, dst: '10.2.0.2' }, 1, 2, large),
        udp({ ...fromWeb, dst: '10.2.0.2', ip4: { dontFragment: true } }, 1, 2, large),
        udp({ ...fromWeb, dst: '10.9.0.1' }, 1, 2),
        udp({ ...fromWeb, dst: '10.1.0.1' }, 1, 2),
        udp({ ...fromWeb, dst: '10.2.0.77' }, 1, 2),
        echo({ ...fromWeb, dst: '10.1.0.1' }, 1, 1),
      ];
      const wrong = packets.map((packet) => packet.with(24, packet[24]! ^ 1));
      const received = (): number[] => [web, db, far].map((port) => port.received.splice(0).length);
      for (const packet of wrong) web.send(packet);
      t.same(received(), [0, 0, 0], 'undecided');
      t.same(drops(), { ipv4_checksum: wrong.length });
      t.equal(forwarding.datapath.counters().held, 0);
      for (const packet of packets) web.send(packet);
      received();
      const before = drops();
      for (const packet of wrong) web.send(packet);
      t.same(received(), [0, 0, 0], 'when flows are cached');
      // The last but one waits for its neighbor: all of its key do.
      const { held } = forwarding.datapath.counters();
      t.same(drops(), { ...before, ipv4_checksum: 2 * wrong.length - (held - 1) });
      const bridged = udp({ ...fromWeb, dstMac: macs.fw, dst: '10.1.0.3' }, 1, 2);
      const carried = bridged.with(24, bridged[24]! ^ 1);
      web.send(carried);
      t.same([...only(t, fw)], [...carried], 'a switch does not look at it');
      net.close();
    });

    t.test('no ICMP error is answered by one, nor a later fragment', async (t) => {
      const { net, web, drops } = lab(open);
      const error = Uint8Array.of(11, 0, 0xf4, 0xff, 0, 0, 0, 0);
      web.send(ip({ ...fromWeb, dst: '10.9.0.1' }, 1, error));
      t.equal(web.received.length, 0);
      t.same(drops(), { no_route: 1 });
      const fragment = (offset: number): Uint8Array => {
        const ip4 = { id: 1, moreFragments: offset === 0, fragmentOffset: offset };
        return ip({ ...fromWeb, dst: '10.9.0.1', ip4 }, 17, new Uint8Array(64));
      };
      web.send(fragment(64));
      web.send(fragment(0));
      t.equal(icmpError(only(t, web)).type, 3, 'only the first is answered');
      t.same(drops(), { no_route: 3 });
      net.close();
    });

    t.test('ICMP errors are limited, drops are still counted', async (t) => {
      const { net, web, drops } = lab(open);
      for (let i = 0; i < 500; i++) web.send(udp({ ...fromWeb, dst: '10.9.0.1' }, i, 2));
      t.equal(web.received.length, 100);
      t.same(drops(), { no_route: 500 });
      net.advance(1000);
      for (let i = 0; i < 500; i++) web.send(udp({ ...fromWeb, dst: '10.9.0.1' }, i, 2));
      t.equal(web.received.length, 150);
      net.close();
    });

    t.test('nor what is said to many; packet too big is limited as the others are', async (t) => {
      const { net, web, db, drops } = lab(open, toBlue, { red: 1500, blue: 1280 });
      const large = new Uint8Array(1400);
      const about = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, ...large);
      const [unreachable, unreachable6] = [about.with(0, 3), about.with(0, 1)];
      web.send(ip({ ...fromWeb, dst: '10.2.0.2', ip4: { dontFragment: true } }, 1, unreachable));
      web.send(ip({ ...fromWeb6, dst: 'fd02::2' }, 58, unreachable6));
      t.same(drops(), { too_big: 2 });
      web.send(ip({ ...fromWeb6, dst: 'fd02::2', ip6: { hopLimit: 1 } }, 58, unreachable6));
      t.same(drops(), { too_big: 2, ttl_exceeded: 1 });
      for (const [dstMac, dst, dst6] of [
        ['ff:ff:ff:ff:ff:ff', '255.255.255.255', 'ff02::1'],
        ['ff:ff:ff:ff:ff:ff', '10.2.0.2', 'fd02::2'],
        ['ff:ff:ff:ff:ff:ff', '10.9.0.1', 'fd09::1'],
        ['01:00:5e:01:01:01', '239.1.1.1', 'ff0e::1'],
        [redGateway, '239.1.1.1', 'ff0e::1'],
        [redGateway, '255.255.255.255', 'ff02::1'],
      ] as const) {
        web.send(udp({ ...fromWeb, dstMac, dst, ip4: { ttl: 1, dontFragment: true } }, 1, 2, large));
        web.send(udp({ ...fromWeb6, dstMac, dst: dst6, ip6: { hopLimit: 1 } }, 1, 2, large));
      }
      t.equal(web.received.length, 0);
      t.equal(db.received.length, 0);
      for (let i = 0; i < 500; i++) web.send(udp({ ...fromWeb6, dst: 'fd02::2' }, i, 2, large));
      t.equal(web.received.length, 100);
      t.ok(web.received.every((frame) => icmpError(frame).type === 2));
      t.equal(drops()['too_big'], 502);
      net.close();
    });

    t.test('the gateway answers ARP, neighbor solicitations and ping, all by itself', async (t) => {
      const { net, web, far, forwarding } = lab(open);
      web.send(arpRequest({ ...fromWeb, dstMac: 'ff:ff:ff:ff:ff:ff', dst: '10.1.0.1' }));
      t.equal(formatMac(parseArp(parseEthernet(only(t, web))!.payload)!.senderMac), redGateway);
      web.send(arpRequest({ ...fromWeb, dst: '10.1.0.1' }));
      t.equal(web.received.splice(0).length, 1, 'also when it is asked whether it is still there');
      web.send(solicitation({ ...fromWeb6, dst: 'fd01::1', target: 'fd01::1' }));
      const flags = parseNeighbor(parseIpv6(parseEthernet(only(t, web))!.payload)!.payload)!.flags;
      t.equal(flags, 0xe0000000, 'router, solicited, override');

      const { upcalls } = forwarding.datapath.counters();
      for (const [ends, gateway] of [
        [fromWeb, '10.1.0.1'],
        [fromWeb6, 'fd01::1'],
        [fromWeb, '10.2.0.1'],
      ] as const) {
        for (const size of [0, 1400]) {
          web.send(echo({ ...ends, dst: gateway }, 7, size, new Uint8Array(size).fill(0xa5)));
          const { payload } = parseEthernet(only(t, web))!;
          const [v4, v6] = [parseIpv4(payload), parseIpv6(payload)];
          t.same([...(v4 ?? v6)!.source], [...(v4 ? parseIp(gateway).subarray(12) : parseIp(gateway))]);
          t.equal(v4?.ttl ?? v6!.hopLimit, 64);
          const message = (v4 ?? v6)!.payload;
          t.equal(parseIcmp(message)!.type, v4 ? 0 : 129);
          t.equal(checksum(message, v6 && pseudoSum(v6.source, v6.destination, 58, message.length)), 0);
          t.same([...(v4 ?? v6)!.destination], [...(v4 ? parseIp('10.1.0.2').subarray(12) : parseIp('fd01::2'))]);
          t.equal((v4 ?? v6)!.payload.length, 8 + size);
        }
      }
      t.equal(forwarding.datapath.counters().upcalls, upcalls + 3, 'the datapath turns echo requests around');
      t.equal(far.received.length, 0, 'nothing is flooded');
      net.close();
    });

    t.test('ping of the gateway with more than an MTU: each fragment is turned around', async (t) => {
      const { net, web, far, drops } = lab(open);
      let id = 0;
      for (const [ends, dst] of [
        [fromWeb, '10.1.0.1'],
        [fromWeb, '10.2.0.1'],
        [fromWeb6, 'fd01::1'],
      ] as const) {
        const [protocol, eachBytes, headerBytes] = ends === fromWeb ? [1, 1480, 20] : [58, 1448, 40];
        for (const size of [eachBytes - 8, eachBytes - 7, 2000, 8972, 65_000]) {
          const data = Uint8Array.from({ length: size }, (_, i) => i * 7);
          const whole = echo({ ...ends, dst }, 7, 1, data).subarray(14 + headerBytes);
          const requests = partsOf(whole.length, eachBytes).map((part) =>
            fragmentOf({ ...ends, dst }, part, { id, protocol, payload: whole }),
          );
          for (const order of [requests, requests.toReversed()]) {
            for (const request of order) web.send(request);
            const replies = web.received
              .splice(0)
              .map(partOfIp)
              .sort((one, other) => one.at - other.at);
            t.equal(replies.length, requests.length, `${dst}, ${size} bytes`);
            const message = concat(...replies.map(({ payload }) => payload));
            const [{ source, destination, packetId }] = replies as [IpPart];
            t.equal(message[0], protocol === 1 ? 0 : 129);
            t.equal(checksum(message, protocol === 1 ? 0 : pseudoSum(source, destination, 58, message.length)), 0);
            t.ok(sameBytes(message.subarray(4), whole.subarray(4)), 'identifier, sequence and data as they were');
            t.ok(replies.every((reply) => reply.packetId === packetId && sameBytes(reply.source, wireIp(dst))));
            if (requests.length === 1) break;
            id++;
          }
        }
      }
      t.same(drops(), {});
      t.equal(far.received.length, 0);
      net.close();
    });

    t.test('an endpoint that moves to another host, or gets another MAC, is followed at once', async (t) => {
      const { net, web, far } = lab(open);
      const send = (): void => web.send(udp({ ...fromWeb, dst: '10.2.0.9' }, 1, 2));
      send();
      only(t, far);
      const says = (mac: string) => arpReply({ srcMac: mac, dstMac: blueGateway, src: '10.2.0.9', dst: '10.2.0.1' });
      far.send(says(macs.far));
      only(t, far);
      let before = far;
      for (const [underlay, mac] of [
        ['192.0.2.3', macs.far],
        ['192.0.2.4', '02:00:00:00:00:05'],
      ] as const) {
        const host = net.host(underlay, underlay);
        host.createNetwork('blue', BLUE, { subnets: ['10.2.0.0/24'] });
        const there = host.attach({ name: 'far', network: 'blue', mac, addresses: ['10.2.0.9'] });
        send();
        only(t, before);
        there.send(says(mac));
        for (let again = 0; again < 2; again++) {
          send();
          t.equal(formatMac(parseEthernet(only(t, there))!.destination), mac);
        }
        t.equal(before.received.length, 0);
        before = there;
      }
      net.close();
    });

    t.test('of several next hops each flow has one', async (t) => {
      const hops = ['10.1.0.3', '10.1.0.4'];
      const { net, web, fw, forwarding } = lab(open, [{ to: '0.0.0.0/0', via: hops }]);
      const second = parseMac('02:00:00:00:00:05');
      forwarding.tables.neighbors.set(RED as Vni, parseIp('10.1.0.4'), second);
      forwarding.tables.fdb.setStatic(RED as Vni, second, { kind: 'port', port: fw.portNo });
      const chosen = new Map<string, number>();
      for (let flow = 0; flow < 200; flow++) {
        const ends = { ...fromWeb, dst: '198.51.100.7' };
        const payload = udp(ends, 1000 + flow, 53, new Uint8Array(88)).subarray(34);
        const parts = partsOf(payload.length, 48).map((part) =>
          fragmentOf(ends, part, { id: flow, protocol: 17, payload }),
        );
        for (const frame of [udp(ends, 1000 + flow, 53), ...parts]) web.send(frame);
        const ways = fw.received.splice(0).map((sent) => formatMac(parseEthernet(sent)!.destination));
        t.equal(ways.length, 3);
        t.equal(new Set(ways).size, 1, 'one way a flow, its fragments too');
        chosen.set(ways[0]!, (chosen.get(ways[0]!) ?? 0) + 1);
      }
      t.same([...chosen.keys()].sort(), [macs.fw, '02:00:00:00:00:05']);
      t.ok(
        [...chosen.values()].every((count) => count > 60),
        `shared as ${[...chosen.values()].join(' and ')}`,
      );
      net.close();
    });

    t.test('a change of routes is in force at once, for cached flows too', async (t) => {
      const { net, web, db, setRed, drops } = lab(open);
      const send = (): void => web.send(udp({ ...fromWeb, dst: '10.2.0.2' }, 1, 2));
      send();
      only(t, db);
      setRed([{ to: '10.2.0.0/24', type: 'blackhole' }]);
      send();
      t.equal(db.received.length, 0);
      t.same(drops(), { route_blackhole: 1 });
      setRed([
        { to: '10.2.0.0/24', type: 'blackhole' },
        { to: '10.2.0.2/32', network: 'blue' },
      ]);
      send();
      only(t, db);
      net.close();
    });

    t.test(
      'what is too big for a smaller network: IPv4 without DF in fragments, the rest with an ICMP error',
      async (t) => {
        const { net, web, db, drops } = lab(open, toBlue, { red: 1500, blue: 576 });
        const payload = Uint8Array.from({ length: 1400 }, (_, i) => i * 7);
        web.send(udp({ ...fromWeb, dst: '10.2.0.2', ip4: { id: 77 } }, 1, 2, payload));
        const fragments = db.received.splice(0).map((frame) => parseIpv4(parseEthernet(frame)!.payload)!);
        t.ok(fragments.length === 3 && fragments.every((one) => one.payload.length <= 556 && one.id === 77));
        t.same(
          fragments.map(({ moreFragments, fragmentOffset }) => [moreFragments, fragmentOffset]),
          [
            [true, 0],
            [true, 552],
            [false, 1104],
          ],
        );
        const whole = Buffer.concat(fragments.map((one) => one.payload));
        t.same([...whole.subarray(8)], [...payload]);
        t.equal(web.received.length, 0);

        for (let time = 1; time <= 2; time++) {
          web.send(udp({ ...fromWeb, dst: '10.2.0.2', ip4: { dontFragment: true } }, 1, 2, payload));
          const told = icmpError(only(t, web));
          t.same([told.type, told.code, told.mac, told.from], [3, 4, redGateway, '10.1.0.1']);
          t.equal(told.mtu, 576);
          web.send(udp({ ...fromWeb6, dst: 'fd02::2' }, 1, 2, payload));
          const told6 = icmpError(only(t, web));
          t.same([told6.type, told6.code, told6.mtu], [2, 0, 576]);
          t.same(drops(), { too_big: 2 * time }, 'on a miss and on a hit');
        }
        web.send(udp({ ...fromWeb, dst: '10.2.0.2', ip4: { dontFragment: true } }, 1, 2, payload.subarray(0, 500)));
        only(t, db);
        net.close();
      },
    );

    t.test('a path to another host that takes less is told of, in the same network too', async (t) => {
      const { net, db, far, forwarding, drops } = lab(open, toBlue, { red: 1450, blue: 1450 });
      const toFar = {
        srcMac: macs.db,
        dstMac: macs.far,
        src: '10.2.0.2',
        dst: '10.2.0.9',
        ip4: { dontFragment: true },
      };
      db.send(udp(toFar, 1, 2, new Uint8Array(1400)));
      only(t, far);
      t.ok(forwarding.setPathMtu(parseIp('192.0.2.2'), 1250));
      db.send(udp(toFar, 1, 2, new Uint8Array(1400)));
      const told = icmpError(only(t, db));
      t.same([told.type, told.code, told.mtu, told.from], [3, 4, 1250, '10.2.0.1']);
      t.same(drops(), { too_big: 1 });
      db.send(udp(toFar, 1, 2, new Uint8Array(1222)));
      only(t, far);
      t.ok(forwarding.setPathMtu(parseIp('192.0.2.2'), 1450));
      db.send(udp(toFar, 1, 2, new Uint8Array(1400)));
      only(t, far);
      net.close();
    });

    t.test('TCP is told at its start what the smallest network and path take', async (t) => {
      const { net, web, db, far, forwarding } = lab(open, toBlue, { red: 1450, blue: 1400 });
      const announced = (frame: Uint8Array): number => {
        const packet = parsePacket(frame);
        t.equal(packet.checksum, 'good');
        return Buffer.from(packet.tcpOptions, 'hex').readUInt16BE(2);
      };
      const syn = (ends: Ends): Uint8Array =>
        tcp(ends, { sourcePort: 1, destinationPort: 2, options: Uint8Array.of(2, 4, 0x22, 0xd8) });
      web.send(syn({ ...fromWeb, dst: '10.2.0.2' }));
      t.equal(announced(only(t, db)), 1360, 'the network that it goes to');
      web.send(syn({ ...fromWeb6, dst: 'fd02::2' }));
      t.equal(announced(only(t, db)), 1340);
      db.send(syn({ srcMac: macs.db, dstMac: blueGateway, src: '10.2.0.2', dst: '10.1.0.2' }));
      t.equal(announced(only(t, web)), 1360, 'and the one that it comes from');
      db.send(syn({ srcMac: macs.db, dstMac: macs.far, src: '10.2.0.2', dst: '10.2.0.9' }));
      t.equal(announced(only(t, far)), 0x22d8, 'what is only bridged stays as it is');

      forwarding.tables.neighbors.set(BLUE as Vni, parseIp('10.2.0.9'), parseMac(macs.far));
      const toFar = syn({ ...fromWeb, dst: '10.2.0.9' });
      web.send(toFar);
      t.equal(announced(only(t, far)), 1360);
      for (const bytes of [1250, 1300]) {
        forwarding.setPathMtu(parseIp('192.0.2.2'), bytes);
        web.send(toFar);
        t.equal(announced(only(t, far)), bytes - 40, 'a cached flow follows the path');
      }
      net.close();
    });

    t.test('nobody else speaks as the gateway', async (t) => {
      const { net, web, fw, db, drops } = lab(open);
      fw.send(udp({ srcMac: redGateway, dstMac: macs.web, src: '10.1.0.1', dst: '10.1.0.2' }, 1, 2));
      web.send(arpReply({ srcMac: macs.web, dstMac: macs.fw, src: '10.1.0.1', dst: '10.1.0.3' }));
      t.same(drops(), { spoof_mac: 1, spoof_arp: 1 });
      t.equal(web.received.length + fw.received.length + db.received.length, 0);
      net.close();
    });
  });
}
