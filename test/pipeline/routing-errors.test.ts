/** Packets that cannot be routed, on both datapaths: the drop reasons, and the ICMP errors that report them. */
import t from 'tap';
import { echo, ip, udp } from '../support/frames.ts';
import { macs, redGateway, datapaths, toBlue, lab, fromWeb, fromWeb6, only, icmpError } from './routing-lab.ts';

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(`ICMP errors on ${name}`, async (t) => {
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
      // The last but one waits for its neighbor, as does every frame with the same key.
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

    t.test('answers are limited, drops are still counted', async (t) => {
      const { net, web, fw, drops, forwarding } = lab(open);
      for (let i = 0; i < 1500; i++) web.send(udp({ ...fromWeb, dst: '10.9.0.1' }, i, 2));
      t.equal(web.received.length, 1000);
      t.same(drops(), { no_route: 1500 });
      fw.send(udp({ ...fromWeb, srcMac: macs.fw, src: '10.1.0.3', dst: '10.9.0.1' }, 1, 2));
      t.equal(icmpError(only(t, fw)).type, 3, 'each port has its own limit');
      net.advance(500);
      for (let i = 0; i < 1500; i++) web.send(udp({ ...fromWeb, dst: '10.9.0.1' }, i, 2));
      t.equal(web.received.length, 1500);
      t.equal(forwarding.datapath.counters().unanswered, 1500);
      net.close();
    });

    t.test('what is refused again and again is decided once, and answered each time', async (t) => {
      const { net, web, drops, forwarding } = lab(open, [
        ...toBlue,
        { to: '10.3.1.0/24', type: 'unreachable' },
        { to: '10.4.0.0/16', type: 'prohibit' },
      ]);
      const upcalls = (): number => forwarding.datapath.counters().upcalls;
      web.send(udp({ ...fromWeb, dst: '10.2.0.77' }, 1, 2));
      net.advance(10_000);
      web.received.length = 0;
      const refused = [
        ['ttl_exceeded', { dst: '10.2.0.2', ip4: { ttl: 1 } }],
        ['no_route', { dst: '10.9.0.1' }],
        ['route_unreachable', { dst: '10.3.1.1' }],
        ['route_prohibit', { dst: '10.4.0.1' }],
        ['gateway_refused', { dst: '10.1.0.1' }],
        ['martian', { dst: '169.254.169.254' }],
      ] as const;
      for (const [reason, ends] of refused) {
        const before = upcalls();
        const dropsBefore = drops()[reason] ?? 0;
        for (let i = 0; i < 100; i++) web.send(udp({ ...fromWeb, ...ends }, i, 33_435));
        t.equal(web.received.splice(0).filter((frame) => [3, 11].includes(icmpError(frame).type)).length, 100, reason);
        t.equal(upcalls(), before + 1, reason);
        t.equal(drops()[reason], dropsBefore + 100, reason);
      }
      net.close();
    });

    t.test('nobody answers for an address: refused by a cached flow until it is asked for again', async (t) => {
      const { net, web, host, forwarding } = lab(open);
      const upcalls = (): number => forwarding.datapath.counters().upcalls;
      const hammer = (): number => {
        for (let i = 0; i < 100; i++) web.send(udp({ ...fromWeb, dst: '10.2.0.77' }, i, 2));
        return web.received.splice(0).length;
      };
      web.send(udp({ ...fromWeb, dst: '10.2.0.77' }, 1, 2));
      for (let i = 0; i < 3; i++) net.advance(1000);
      t.equal(web.received.splice(0).length, 1);
      const before = upcalls();
      t.equal(hammer(), 100);
      t.ok(upcalls() <= before + 1, `${upcalls() - before} upcalls`);
      const there = host.attach({ name: 'late', network: 'blue', mac: '02:00:00:00:00:77', addresses: ['10.2.0.77'] });
      t.equal(hammer(), 0);
      t.equal(there.received.length, 100, 'and carried as soon as an endpoint has it');
      net.close();
    });

    t.test('nor what is said to many; packet too big is limited', async (t) => {
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
  });
}
