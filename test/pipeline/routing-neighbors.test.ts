/**
 * Neighbors of routed packets, on both datapaths: whom the gateway asks, whom it believes, and how it follows those
 * that move.
 */
import t from 'tap';
import { formatMac, parseIp, parseMac, type Vni } from '../../src/flow/types.ts';
import type { SimulatedPort } from '../../src/simulation.ts';
import { parseArp } from '../../src/wire/arp.ts';
import { parseEthernet } from '../../src/wire/ethernet.ts';
import { parseIpv6 } from '../../src/wire/ipv6.ts';
import { advertisement, arpReply, arpRequest, udp } from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import {
  BLUE,
  macs,
  redGateway,
  blueGateway,
  datapaths,
  toBlue,
  lab,
  fromWeb,
  fromWeb6,
  only,
  icmpError,
} from './routing-lab.ts';

interface Carrier {
  readonly mac: string;
  readonly port: SimulatedPort;
}

/** True for an ARP request or a neighbor solicitation. */
function isQuestion(frame: Uint8Array): boolean {
  const { type, payload } = parseEthernet(frame)!;
  return type === 0x0806 || parseIpv6(payload)?.payload[0] === 135;
}

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(`neighbors on ${name}`, async (t) => {
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
  });
}
