/**
 * Weft's own sockets at the addresses of gateways, on both datapaths:
 *
 *   ┌ host ─────────────────────────────────────┐
 *   │ web (red)   shop (blue)   spy (red, trust) │
 *   │      └────────── weft ──────────┘          │
 *   │                   │ internal               │
 *   └───────────────── sockets: 53/udp, 53/tcp ──┘
 *
 *   red and blue have the same addresses: 10.1.0.0/24, fd01::/64, gateways .1, ::1; green is 10.2.0.0/24
 */
import t from 'tap';
import { isInternal } from '../../src/flow/connection.ts';
import { formatIp, formatMac, parseIp, type PortNo, type Vni } from '../../src/flow/types.ts';
import { parseFlow } from '../../src/observe/flow-spec.ts';
import { createSimulation, type SimulatedPort } from '../../src/simulation.ts';
import { clientAddress, clientOfAddress } from '../../src/table/clients.ts';
import { gatewayMac, INTERNAL_MAC, INTERNAL_NAMESPACE_MAC, internalObject } from '../../src/table/topology.ts';
import { parseEthernet } from '../../src/wire/ethernet.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { buildUdp } from '../../src/wire/l4.ts';
import { checkConservation } from '../conformance/harness.ts';
import { tcp, udp, wireIp, type Ends } from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { fragmentOf, partsOf } from '../support/random-fragments.ts';
import { ACK, datapaths, families, icmp, icmpSeen, only, seen, SYN, text } from './outside-lab.ts';

const [RED, BLUE, GREEN] = [100, 200, 300] as Vni[] as [Vni, Vni, Vni];
const web = { mac: '02:00:00:00:00:01', ip4: '10.1.0.2', ip6: 'fd01::2' };
const shop = { ...web, mac: '02:00:00:00:00:02' };
const spy = { mac: '02:00:00:00:00:03', ip4: '10.1.0.9', ip6: 'fd01::9' };
const gateway = { ip4: '10.1.0.1', ip6: 'fd01::1' };
const socket = { ip4: '169.254.77.6', ip6: 'fd77:6566:7431::2' };
const listening = [IP_UDP, IP_TCP].map((protocol) => ({ protocol, l4Port: 53 }));
type Family = (typeof families)[number];

function lab(open: (typeof datapaths)['native']) {
  const net = createSimulation({ open });
  const host = net.host('a', '192.0.2.1');
  for (const [name, vni] of [
    ['red', RED],
    ['blue', BLUE],
  ] as const) {
    host.createNetwork(name, vni, {
      subnets: ['10.1.0.0/24', 'fd01::/64'],
      routes: [{ to: '10.2.0.0/24', network: 'green' }],
    });
  }
  host.createNetwork('green', GREEN, { subnets: ['10.2.0.0/24'] });
  const attach = (name: string, network: string, { mac, ip4, ip6 }: typeof web, trust = false) =>
    host.attach({ name, network, mac, addresses: [ip4, ip6], allowedAddresses: ['10.1.0.77'], trust });
  const ports = {
    web: attach('web', 'red', web),
    shop: attach('shop', 'blue', shop),
    spy: attach('spy', 'red', spy, true),
  };
  const link = { addresses: ['169.254.77.5', 'fd77:6566:7431::1'], sockets: Object.values(socket) };
  const { forwarding } = host;
  const { topology, connections } = forwarding.tables;
  return {
    net,
    host,
    forwarding,
    ...ports,
    listen: (what = listening) => host.openInternal({ ...link, listening: what }),
    drops: (): Partial<Record<string, number>> => forwarding.datapath.counters().drops,
    upcalls: (): number => forwarding.datapath.counters().upcalls,
    connections: () => [...connections.entries()].filter(isInternal),
    clientOf: (port: SimulatedPort): number => topology.clients.of(port.portNo),
    close: () => {
      checkConservation(forwarding.datapath.counters());
      net.close();
    },
  };
}

const asking = ({ mac, ...ips }: typeof web, family: Family, vni = RED): Ends => ({
  srcMac: mac,
  dstMac: formatMac(gatewayMac(vni)),
  src: ips[family],
  dst: gateway[family],
});
const answering = (family: Family, client: string): Ends => ({
  srcMac: formatMac(INTERNAL_NAMESPACE_MAC),
  dstMac: formatMac(INTERNAL_MAC),
  src: socket[family],
  dst: client,
});

/** The address by which the sockets see who sent a frame, as text. */
function sourceOf(frame: Uint8Array, family: Family): string {
  const { payload } = parseEthernet(frame)!;
  const bytes = family === 'ip4' ? payload.subarray(12, 16) : payload.subarray(8, 24);
  const hex = Buffer.from(bytes).toString('hex');
  return family === 'ip4' ? bytes.join('.') : hex.replace(/(....)(?=.)/g, '$1:');
}

const clientOf = (frame: Uint8Array, family: Family): number => clientOfAddress(parseIp(sourceOf(frame, family)));

t.test('the address of a client contains its number, in both families', (t) => {
  for (const isV4 of [true, false]) {
    for (const id of [1, 0x010203, 0xff_ffff]) {
      for (const turn of [0, 63]) t.equal(clientOfAddress(clientAddress(id, isV4, turn)), id);
    }
  }
  for (const ip of ['10.1.0.2', '80.0.0.1', '15.0.0.1', 'fd01::2', '::ffff:0:16.0.0.1'])
    t.equal(clientOfAddress(parseIp(ip)), 0);
  t.end();
});

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(`weft’s own sockets on ${name}`, async (t) => {
    for (const family of families) {
      t.test(`${family}: questions and answers, TCP and UDP`, async (t) => {
        const { web: port, listen, drops, upcalls, clientOf: idOf, close } = lab(open);
        const internal = listen();
        for (const protocol of ['udp', 'tcp'] as const) {
          const ask = (sourcePort: number, flags = SYN) =>
            protocol === 'udp'
              ? udp(asking(web, family), sourcePort, 53, Uint8Array.of(1))
              : tcp(asking(web, family), { sourcePort, destinationPort: 53, flags, sequence: 100 });
          port.send(ask(5000));
          const frame = only(t, internal);
          const question = seen(frame);
          t.same(question.macs, [formatMac(INTERNAL_MAC), formatMac(INTERNAL_NAMESPACE_MAC)]);
          t.same([question.from[1], question.to], [5000, [text(socket[family]), 53]]);
          t.equal(question.checksum, 'good');
          t.equal(clientOf(frame, family), idOf(port));

          const back = answering(family, sourceOf(frame, family));
          const answer = (destinationPort: number) =>
            protocol === 'udp'
              ? udp(back, 53, destinationPort, Uint8Array.of(2))
              : tcp(back, { sourcePort: 53, destinationPort, flags: SYN | ACK, acknowledgment: 101 });
          internal.send(answer(5000));
          const got = seen(only(t, port));
          t.same(got.macs, [formatMac(gatewayMac(RED)), web.mac]);
          t.same(
            [got.from, got.to],
            [
              [text(gateway[family]), 53],
              [text(web[family]), 5000],
            ],
          );
          t.equal(got.checksum, 'good');
          const before = upcalls();
          for (let i = 0; i < 3; i++) {
            port.send(ask(5000, ACK));
            internal.send(answer(5000));
          }
          t.equal(upcalls(), before, 'no further decision');
          t.same([internal.received.splice(0).length, port.received.splice(0).length], [3, 3]);
        }
        t.same(drops(), {});
        close();
      });

      t.test(`${family}: the same addresses and ports in two networks are two clients`, async (t) => {
        const { web: red, shop: blue, listen, clientOf: idOf, close } = lab(open);
        const internal = listen();
        red.send(udp(asking(web, family), 5000, 53));
        const first = only(t, internal);
        blue.send(udp(asking(shop, family, BLUE), 5000, 53));
        const second = only(t, internal);
        t.same([clientOf(first, family), clientOf(second, family)], [idOf(red), idOf(blue)]);
        internal.send(udp(answering(family, sourceOf(second, family)), 53, 5000));
        t.same([red.received.length, blue.received.length], [0, 1]);
        internal.send(udp(answering(family, sourceOf(first, family)), 53, 5000));
        t.same([red.received.length, blue.received.length], [1, 1]);
        close();
      });

      t.test(`${family}: a trusted container that forges everything is known all the same`, async (t) => {
        const { web: port, spy: forger, listen, connections, clientOf: idOf, close } = lab(open);
        const internal = listen();
        const frame = udp(asking(web, family), 5000, 53);
        for (const [from, times] of [
          [port, 2],
          [forger, 1],
          [port, 1],
        ] as const) {
          for (let i = 0; i < times; i++) from.send(frame);
          const got = internal.received.splice(0).map((question) => clientOf(question, family));
          t.same(got, new Array<number>(times).fill(idOf(from)));
          t.equal(connections().length, 1, 'who speaks last has them');
        }
        const stranger = family === 'ip4' ? '10.9.0.1' : 'fd09::1';
        forger.send(udp({ ...asking(spy, family), src: stranger }, 5000, 53));
        t.same(internal.received, [], 'what cannot be answered goes nowhere');
        close();
      });

      t.test(`${family}: datagrams larger than a packet, both ways`, async (t) => {
        const { web: port, listen, drops, close } = lab(open);
        const internal = listen();
        const fragments = (ends: Ends, sourcePort: number, destinationPort: number) => {
          const payload = buildUdp(wireIp(ends.src!), wireIp(ends.dst!), {
            sourcePort,
            destinationPort,
            payload: new Uint8Array(3000),
          });
          return partsOf(payload.length, 1200).map((part) =>
            fragmentOf(ends, part, { id: 7, protocol: IP_UDP, payload }),
          );
        };
        for (const frame of fragments(asking(web, family), 5000, 53)) port.send(frame);
        const got = internal.received.splice(0);
        t.equal(got.length, 3);
        for (const frame of fragments(answering(family, sourceOf(got[2]!, family)), 53, 5000)) internal.send(frame);
        t.equal(port.received.length, 3);
        t.same(drops(), {});
        close();
      });

      t.test(`${family}: a socket that has gone is told to who asks`, async (t) => {
        const { web: port, listen, close } = lab(open);
        const internal = listen();
        port.send(udp(asking(web, family), 5000, 53));
        const frame = only(t, internal);
        const quoted = parseEthernet(frame)!.payload;
        const body = new Uint8Array(4 + quoted.length);
        body.set(quoted, 4);
        const [type, code] = family === 'ip4' ? [3, 3] : [1, 4];
        internal.send(icmp(answering(family, sourceOf(frame, family)), family, type, code, body));
        const told = icmpSeen(t, only(t, port));
        t.match(told, { from: text(gateway[family]), to: text(web[family]), type, code });
        t.same(
          [...told.body.subarray(4 + (family === 'ip4' ? 12 : 8)).subarray(0, wireIp(web[family]).length)],
          [...wireIp(web[family])],
        );
        close();
      });
    }

    t.test('without sockets, and on other ports, the gateway refuses', async (t) => {
      const { web: port, host, forwarding, listen, drops, connections, close } = lab(open);
      const ask = (l4Port: number): void => port.send(udp(asking(web, 'ip4'), 5000, l4Port));
      const isRefused = (what: string): void => {
        t.match(icmpSeen(t, only(t, port)), { from: text(gateway.ip4), type: 3, code: 3 }, what);
      };
      ask(53);
      isRefused('before');
      const internal = listen([{ protocol: IP_UDP, l4Port: 53 }]);
      ask(54);
      isRefused('another port');
      port.send(tcp(asking(web, 'ip4'), { sourcePort: 5000, destinationPort: 53, flags: SYN }));
      isRefused('another protocol');
      ask(53);
      ask(53);
      t.equal(internal.received.splice(0).length, 2);
      forwarding.setInternal({
        ...forwarding.tables.topology.internal!,
        listening: [{ protocol: IP_UDP, l4Port: 54 }],
      });
      t.same(connections(), [], 'with its socket, a connection ends');
      ask(53);
      isRefused('a port that is not listened on any more');
      ask(54);
      t.equal(internal.received.splice(0).length, 1);
      forwarding.removeInternal();
      ask(54);
      isRefused('after');
      t.same([internal.received, connections()], [[], []]);
      t.same(drops(), { gateway_refused: 5 });
      t.ok(host);
      close();
    });

    t.test('the sockets send nothing that nobody has asked for', async (t) => {
      const { web: port, listen, drops, close } = lab(open);
      const internal = listen();
      internal.send(udp(answering('ip4', '16.0.0.1'), 53, 5000));
      internal.send(udp(answering('ip4', web.ip4), 53, 5000));
      internal.send(udp({ ...answering('ip4', '16.0.0.1'), dstMac: web.mac }, 53, 5000));
      port.send(udp(asking(web, 'ip4'), 5000, 53));
      internal.send(udp(answering('ip4', sourceOf(only(t, internal), 'ip4')), 54, 5000));
      const group = { ...answering('ip4', '16.0.0.1'), dstMac: '33:33:00:00:00:16' };
      internal.send(udp(group, 53, 5000));
      t.same(port.received, []);
      t.same(drops(), { no_connection: 4 }, 'the last one is no news: the kernel tells which groups it has joined');
      close();
    });

    for (const family of families) {
      t.test(`${family}: a socket opens connections to containers, by the client that they are`, async (t) => {
        const { web: red, shop: blue, listen, connections, drops, upcalls, clientOf: idOf, close } = lab(open);
        const internal = listen();
        for (const [port, { mac }, vni] of [
          [red, web, RED],
          [blue, shop, BLUE],
        ] as const) {
          const client = formatIp(clientAddress(idOf(port), family === 'ip4', 0));
          const out = (flags = SYN) =>
            tcp(answering(family, client), { sourcePort: 40_000, destinationPort: 8080, flags, sequence: 7 });
          internal.send(out());
          const asked = seen(only(t, port));
          t.same(asked.macs, [formatMac(gatewayMac(vni)), mac], 'it comes from the gateway');
          t.same(
            [asked.from, asked.to],
            [
              [text(gateway[family]), 40_000],
              [text(web[family]), 8080],
            ],
          );
          t.equal(asked.checksum, 'good');

          const back = asking(port === red ? web : shop, family, vni);
          const answer = (flags: number) =>
            tcp(back, { sourcePort: 8080, destinationPort: 40_000, flags, acknowledgment: 8 });
          port.send(answer(SYN | ACK));
          const answered = seen(only(t, internal));
          t.same(answered.macs, [formatMac(INTERNAL_MAC), formatMac(INTERNAL_NAMESPACE_MAC)]);
          t.same(
            [answered.from, answered.to],
            [
              [text(client), 8080],
              [text(socket[family]), 40_000],
            ],
          );
          t.equal(answered.checksum, 'good');
          const before = upcalls();
          for (let i = 0; i < 3; i++) {
            internal.send(out(ACK));
            port.send(answer(ACK));
          }
          t.equal(upcalls(), before, 'no further decision');
          t.same([internal.received.splice(0).length, port.received.splice(0).length], [3, 3]);
        }
        t.equal(connections().length, 2);
        t.same(drops(), {});
        close();
      });
    }

    t.test('only the container that a socket has asked can answer', async (t) => {
      const { web: port, spy: forger, listen, drops, clientOf: idOf, close } = lab(open);
      const internal = listen();
      const client = formatIp(clientAddress(idOf(port), true, 0));
      const answer = tcp(asking(web, 'ip4'), { sourcePort: 8080, destinationPort: 40_000, flags: SYN | ACK });
      port.send(answer);
      t.match(icmpSeen(t, only(t, port)), { type: 3, code: 3 }, 'before it is asked, the gateway refuses');
      internal.send(tcp(answering('ip4', client), { sourcePort: 40_000, destinationPort: 8080, flags: SYN }));
      only(t, port);
      forger.send(answer);
      t.same(internal.received, [], 'a trusted container in its place');
      port.send(answer);
      only(t, internal);
      port.send(tcp(asking(web, 'ip4'), { sourcePort: 8081, destinationPort: 40_000, flags: SYN | ACK }));
      t.match(icmpSeen(t, only(t, port)), { type: 3, code: 3 }, 'another port');
      t.same(drops(), { gateway_refused: 2, no_connection: 1 });
      close();
    });

    t.test('a socket is told at once that a connection cannot be', async (t) => {
      const { web: port, host, listen, connections, drops, clientOf: idOf, close } = lab(open);
      const internal = listen();
      const id = idOf(port);
      const dial = (client: Uint8Array) =>
        internal.send(
          tcp(answering('ip4', formatIp(client)), { sourcePort: 40_000, destinationPort: 8080, flags: SYN }),
        );
      const isTold = (what: string): void => {
        const { from, to, type, code } = icmpSeen(t, only(t, internal));
        t.same([from, to, type, code], [text('169.254.77.5'), text(socket.ip4), 3, 1], what);
      };
      dial(clientAddress(4711, true, 0));
      isTold('nobody has this number');
      dial(parseIp('10.1.0.2'));
      isTold('an address of no client');
      dial(clientAddress(id, true, 1));
      isTold('it has one address of this family');
      t.same(connections(), []);
      dial(clientAddress(id, true, 0));
      t.equal(connections().length, 1);
      only(t, port);
      host.detach('web');
      t.same(connections(), [], 'it ends with its client');
      dial(clientAddress(id, true, 0));
      isTold('the client has gone');
      t.same(drops(), { no_connection: 4 });
      close();
    });

    t.test('it lasts as long as the sockets, whatever else they listen on', async (t) => {
      const { web: port, forwarding, listen, connections, clientOf: idOf, close } = lab(open);
      const internal = listen();
      const client = formatIp(clientAddress(idOf(port), true, 0));
      internal.send(tcp(answering('ip4', client), { sourcePort: 40_000, destinationPort: 8080, flags: SYN }));
      forwarding.setInternal({ ...forwarding.tables.topology.internal!, listening: [] });
      t.equal(connections().length, 1);
      forwarding.removeInternal();
      t.same(connections(), []);
      close();
    });

    t.test('two addresses of one container may use one port, and so may questions to two gateways', async (t) => {
      const { web: port, listen, clientOf: idOf, close } = lab(open);
      const internal = listen();
      port.send(udp(asking(web, 'ip4'), 5000, 53));
      port.send(udp({ ...asking(web, 'ip4'), src: '10.1.0.77' }, 5000, 53));
      port.send(udp({ ...asking(web, 'ip4'), dst: '10.2.0.1' }, 5000, 53));
      const frames = internal.received.splice(0);
      t.equal(new Set(frames.map((frame) => sourceOf(frame, 'ip4'))).size, 3);
      for (const frame of frames) t.equal(clientOf(frame, 'ip4'), idOf(port));
      internal.send(udp(answering('ip4', sourceOf(frames[2]!, 'ip4')), 53, 5000));
      t.same(seen(only(t, port)).from, [text('10.2.0.1'), 53], 'the answer comes from the gateway that was asked');
      close();
    });

    t.test('a client ends with its port, and its number is not used again', async (t) => {
      for (const keep of [false, true]) {
        const { web: port, host, forwarding, listen, connections, clientOf: idOf, close } = lab(open);
        const internal = listen();
        const frame = udp(asking(web, 'ip4'), 5000, 53);
        port.send(frame);
        const source = sourceOf(only(t, internal), 'ip4');
        const before = idOf(port);
        forwarding.removePort(port.portNo, { keep });
        t.same(connections(), [], `keep: ${keep}`);
        internal.send(udp(answering('ip4', source), 53, 5000));
        const { mac, ip4, ip6 } = web;
        const again = host.attach({ name: 'web2', network: 'red', mac, addresses: [ip4, ip6] });
        again.send(frame);
        t.equal(clientOf(only(t, internal), 'ip4'), idOf(again));
        t.not(idOf(again), before);
        close();
      }
    });

    t.test('segments fit what the sockets can send', async (t) => {
      const { web: port, listen, close } = lab(open);
      const internal = listen();
      const mss = (bytes: number): Uint8Array => Uint8Array.of(2, 4, bytes >>> 8, bytes);
      port.send(tcp(asking(web, 'ip4'), { sourcePort: 5000, destinationPort: 53, flags: SYN }));
      const back = answering('ip4', sourceOf(only(t, internal), 'ip4'));
      internal.send(tcp(back, { sourcePort: 53, destinationPort: 5000, flags: SYN | ACK, options: mss(1460) }));
      t.equal(parsePacket(port.received[0]!).tcpOptions, Buffer.from(mss(1240)).toString('hex'));
      close();
    });

    t.test('what becomes of the outside does not concern them', async (t) => {
      const { web: port, host, forwarding, listen, connections, close } = lab(open);
      listen();
      port.send(udp(asking(web, 'ip4'), 5000, 53));
      const red = { subnets: ['10.1.0.0/24', 'fd01::/64'] };
      host.createNetwork('red', RED, { ...red, outside: true });
      host.openOutside({ transit: ['169.254.77.2'] });
      host.publish('web', { protocol: 'UDP', hostPort: 5000, port: 5000 });
      forwarding.removeOutside();
      host.createNetwork('red', RED, red);
      t.equal(connections().length, 1);
      close();
    });

    t.test('a decision about the gateway is made again when weft begins to listen', async (t) => {
      const { forwarding, close } = lab(open);
      const flow = `in_port=web,udp,ip_dst=10.1.0.1,eth_dst=${formatMac(gatewayMac(RED))},udp_dst=53`;
      const { key } = parseFlow(flow, forwarding.tables, () => 3 as PortNo);
      t.match(forwarding.controller.decide(key), { reason: 'gateway_refused' });
      t.ok(forwarding.controller.decide(key).consulted.includes(internalObject));
      close();
    });

    t.test('who keeps a list of the clients is told of each before its packets come', async (t) => {
      const { web: port, host, forwarding, listen, close } = lab(open);
      const { clients } = forwarding.tables.topology;
      listen();
      t.match(
        clients.all().map(({ network, endpoint }) => `${network} ${endpoint}`),
        ['red web', 'blue shop', 'red spy'],
      );
      const told: string[] = [];
      const stop = clients.watch({
        added: ({ network, endpoint }) => told.push(`+ ${network} ${endpoint}`),
        removed: (id) => told.push(`- ${id}`),
      });
      const id = clients.of(port.portNo);
      host.detach('web');
      host.attach({ name: 'late', network: 'blue', mac: web.mac, addresses: ['10.1.0.8'] });
      stop();
      host.detach('late');
      t.same(told, [`- ${id}`, '+ blue late']);
      close();
    });
  });
}
