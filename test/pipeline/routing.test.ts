/**
 * Routing, on both datapaths: from network to network, and what the gateway does. routing-lab.ts has a drawing of the
 * overlay.
 */
import t from 'tap';
import { formatMac, parseIp, parseMac, sameBytes, type Vni } from '../../src/flow/types.ts';
import { parseArp } from '../../src/wire/arp.ts';
import { concat, getU16, getU32 } from '../../src/wire/bytes.ts';
import { checksum, pseudoSum } from '../../src/wire/checksum.ts';
import { parseEthernet } from '../../src/wire/ethernet.ts';
import { parseIcmp } from '../../src/wire/icmp.ts';
import { parseIpv4 } from '../../src/wire/ipv4.ts';
import { parseIpv6 } from '../../src/wire/ipv6.ts';
import { parseNeighbor } from '../../src/wire/nd.ts';
import { arpReply, arpRequest, echo, solicitation, tcp, udp, wireIp, type Ends } from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { fragmentOf, partsOf } from '../support/random-fragments.ts';
import {
  RED,
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

interface IpPart {
  readonly at: number;
  readonly payload: Uint8Array;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly packetId: number;
}

/**
 * The part of its datagram that a packet carries. Takes IPv4, or IPv6 with no extension header except a fragment
 * header.
 */
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

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(`routing on ${name}`, async (t) => {
    t.test('from one network to another on the same host', async (t) => {
      const { net, web, db, forwarding } = lab(open);
      for (const [ends, dst] of [
        [fromWeb, '10.2.0.2'],
        [fromWeb6, 'fd02::2'],
      ] as const) {
        for (let i = 0; i < 3; i++) {
          web.send(udp({ ...ends, dst }, 1000, 2000, Uint8Array.of(1, 2, 3)));
          const frame = only(t, db);
          const { destination, source } = parseEthernet(frame)!;
          t.same([formatMac(destination), formatMac(source)], [macs.db, blueGateway]);
          const packet = parsePacket(frame);
          t.same([packet.ttl, packet.checksum, [...packet.payload]], [63, 'good', [1, 2, 3]]);
        }
      }
      t.equal(forwarding.datapath.counters().upcalls, 2, 'those behind the first one of each are the flow cache’s');
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
      t.ok(forwarding.remote.setPathMtu(parseIp('192.0.2.2'), 1250));
      db.send(udp(toFar, 1, 2, new Uint8Array(1400)));
      const told = icmpError(only(t, db));
      t.same([told.type, told.code, told.mtu, told.from], [3, 4, 1250, '10.2.0.1']);
      t.same(drops(), { too_big: 1 });
      db.send(udp(toFar, 1, 2, new Uint8Array(1222)));
      only(t, far);
      t.ok(forwarding.remote.setPathMtu(parseIp('192.0.2.2'), 1450));
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
        forwarding.remote.setPathMtu(parseIp('192.0.2.2'), bytes);
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
