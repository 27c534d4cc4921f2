/**
 * Whatever a sender can vary without limit is refused by a bounded number of cached flows: only a few
 * frames reach the slow path, and the flows of others stay cached.
 */
import t from 'tap';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { formatIp, formatMac, parseIp, parseMac, type PortNo } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { arpRequest, udp } from '../support/frames.ts';
import { Random } from '../support/random.ts';

const VNI = 100;
const UNDERLAY_PORT = 1 as PortNo;
const FRAMES = 10_000;
/** All values of a byte except the right one; for the last byte perhaps those that remain. */
const MOST_OF_A_BYTE = 255;
const web = { mac: '02:00:00:00:00:01', ip: '10.0.0.1', ip6: 'fd00::1' };
const far = { mac: '02:00:00:00:00:09', ip: '10.0.0.9' };
const toFar = { srcMac: web.mac, dstMac: far.mac, src: web.ip, dst: far.ip };

const datapaths = {
  native: (options: Parameters<typeof openReferenceDatapath>[0]) => openNativeDatapath({ ...options, threads: 0 }),
  reference: openReferenceDatapath,
};

function lab(open: (typeof datapaths)['native']) {
  const net = createSimulation({ open });
  const [a] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
  a.createNetwork('blue', VNI);
  const port = a.attach({ name: 'web', network: 'blue', mac: web.mac, addresses: [web.ip, web.ip6] });
  const { datapath, controller } = a.forwarding;
  const tunnel = (source: Uint8Array, vni: number, srcMac = far.mac, dstMac = web.mac): void =>
    datapath.injectDatagram(UNDERLAY_PORT, {
      source,
      destination: parseIp('192.0.2.1'),
      sourcePort: 50_000,
      payload: buildVxlan({ vni, frame: udp({ srcMac, dstMac, src: far.ip, dst: web.ip }, 1, 2) }),
    });
  return { net, host: a, port, tunnel, controller, counters: () => datapath.counters() };
}

/** One of the tries is random everywhere, the next differs from `right` in its last bytes only. */
function forged(random: Random, right: Uint8Array, first: number): Uint8Array {
  const bytes = right.slice();
  const at = first + random.int(bytes.length - first);
  bytes.set(random.bytes(bytes.length - at), at);
  if (bytes.every((byte, i) => byte === right[i])) bytes[at]! ^= 1;
  return bytes;
}

/** What a container may forge: the frames, the reason, the bytes of the field and how many values are right. */
const forgeries: Readonly<
  Record<string, { readonly forge: (random: Random) => Uint8Array; readonly reason: string; readonly most: number }>
> = {
  'IPv4 sources': {
    forge: (random) => udp({ ...toFar, src: formatIp(forged(random, parseIp(web.ip), 12)) }, 1, 2),
    reason: 'spoof_ip4',
    // Its own and 0.0.0.0: a wrong one differs from each in any of four bytes.
    most: 2 * 4 * MOST_OF_A_BYTE,
  },
  'IPv6 sources': {
    forge: (random) => udp({ ...toFar, src: formatIp(forged(random, parseIp(web.ip6), 8)), dst: 'fd00::9' }, 1, 2),
    reason: 'spoof_ip6',
    // Its own, its link-local one and `::`.
    most: 3 * 8 * MOST_OF_A_BYTE,
  },
  'MAC addresses': {
    forge: (random) => udp({ ...toFar, srcMac: formatMac(forged(random, parseMac(web.mac), 1)) }, 1, 2),
    reason: 'spoof_mac',
    most: 2 * 5 * MOST_OF_A_BYTE,
  },
  'ARP senders': {
    forge: (random) => arpRequest({ ...toFar, src: formatIp(forged(random, parseIp(web.ip), 12)) }),
    reason: 'spoof_arp',
    most: 2 * 4 * MOST_OF_A_BYTE,
  },
};

for (const [name, open] of Object.entries(datapaths)) {
  for (const [what, { forge, reason, most }] of Object.entries(forgeries)) {
    void t.test(`${name}: a container’s forged ${what}`, async (t) => {
      const { net, port, counters } = lab(open);
      const random = new Random(9);
      for (let i = 0; i < FRAMES; i++) {
        port.send(forge(random));
        if (i % 500 === 0) net.advance(1000);
      }
      const { drops, upcalls, masks } = counters();
      t.same(drops, { [reason]: FRAMES });
      t.ok(upcalls <= most, `${upcalls} upcalls`);
      t.ok(masks <= 16, `${masks} masks`);
      net.close();
    });
  }

  void t.test(`${name}: an address that comes to be the container’s own`, async (t) => {
    const { net, port, host, counters } = lab(open);
    const frame = udp({ ...toFar, src: '172.16.0.1' }, 1, 2);
    port.send(udp({ ...toFar, src: '172.16.9.9' }, 1, 2));
    port.send(frame);
    t.equal(counters().upcalls, 1, 'it is refused with others of its beginning');
    host.forwarding.changePort({
      ...host.forwarding.tables.topology.port(port.portNo)!,
      allowedAddresses: [parseIp('172.16.0.1')],
    });
    port.send(frame);
    t.same(counters().drops, { spoof_ip4: 2 }, 'and carried as soon as it may be sent from');
    net.close();
  });

  void t.test(`${name}: VTEPs that are no peers`, async (t) => {
    const { net, tunnel, counters } = lab(open);
    const random = new Random(7);
    for (let i = 0; i < FRAMES; i++) tunnel(forged(random, parseIp('192.0.2.2'), 12), VNI);
    const { drops, upcalls, flows, masks } = counters();
    t.same(drops.vxlan_unknown_vtep! + (drops.vxlan_own_address ?? 0), FRAMES);
    t.ok(upcalls <= 4 * MOST_OF_A_BYTE, `${upcalls} upcalls`);
    t.ok(flows <= upcalls && masks <= 4, `${flows} flows, ${masks} masks`);
    net.close();
  });

  void t.test(`${name}: group MACs as sources behind a peer`, async (t) => {
    const { net, tunnel, counters } = lab(open);
    const random = new Random(10);
    for (let i = 0; i < FRAMES; i++) {
      const mac = random.bytes(6);
      mac[0]! |= 1;
      tunnel(parseIp('192.0.2.2'), VNI, formatMac(mac));
    }
    const { drops, upcalls, masks } = counters();
    t.same(drops, { bad_source_mac: FRAMES });
    t.ok(upcalls <= 128 && masks === 1, `${upcalls} upcalls, ${masks} masks`);
    net.close();
  });

  void t.test(`${name}: all UDP ports between two stations`, async (t) => {
    const { net, port, counters } = lab(open);
    for (let l4Port = 1; l4Port <= 0xffff; l4Port++) {
      port.send(udp(toFar, l4Port, l4Port));
      if (l4Port % 500 === 0) net.advance(1000);
    }
    // Those of DHCP's clients differ in one of two bytes from all others.
    const { upcalls } = counters();
    t.ok(upcalls <= 2 * (MOST_OF_A_BYTE + 1), `${upcalls} upcalls`);
    net.close();
  });

  void t.test(`${name}: destinations behind a peer that no port here has, and one that comes to be one`, async (t) => {
    const { net, host, port, tunnel, counters } = lab(open);
    const random = new Random(11);
    const peer = parseIp('192.0.2.2');
    for (let i = 0; i < FRAMES; i++) tunnel(peer, VNI, far.mac, formatMac(forged(random, parseMac(web.mac), 1)));
    const { drops, upcalls, masks } = counters();
    t.same(drops, { no_destination: FRAMES });
    // The ports, the gateway and the host itself.
    t.ok(upcalls <= 3 * 5 * MOST_OF_A_BYTE && masks <= 8, `${upcalls} upcalls, ${masks} masks`);
    const late = { mac: '02:99:00:00:00:05', ip: '10.0.0.5' };
    tunnel(peer, VNI, far.mac, late.mac);
    t.equal(counters().upcalls, upcalls, 'it is refused without being decided');
    const there = host.attach({ name: 'late', network: 'blue', mac: late.mac, addresses: [late.ip] });
    tunnel(peer, VNI, far.mac, late.mac);
    t.equal(there.received.length, 1, 'and carried as soon as a port has it');

    const unknown = '02:98:00:00:00:06';
    tunnel(peer, VNI, far.mac, unknown);
    t.equal(port.received.length, 0);
    const { topology } = host.forwarding.tables;
    host.forwarding.changePort({ ...topology.port(port.portNo)!, trust: true });
    tunnel(peer, VNI, far.mac, unknown);
    t.equal(port.received.length, 1, 'it may be behind a port that is trusted');
    host.forwarding.changePort({ ...topology.port(port.portNo)!, trust: false });
    tunnel(peer, VNI, far.mac, unknown);
    t.equal(port.received.length, 1, 'and not behind one that is not any more');
    net.close();
  });

  void t.test(`${name}: VNIs of no network, and one that comes to be one`, async (t) => {
    const { net, host, port, tunnel, counters } = lab(open);
    const random = new Random(8);
    const own = Uint8Array.of(0, 0, 0, VNI);
    for (let i = 0; i < FRAMES; i++) {
      const [, high = 0, mid = 0, low = 0] = forged(random, own, 1);
      tunnel(parseIp('192.0.2.2'), (high << 16) | (mid << 8) | low);
    }
    const { drops, upcalls, masks } = counters();
    t.same(drops, { vxlan_unknown_vni: FRAMES });
    t.ok(upcalls <= 3 * MOST_OF_A_BYTE && masks <= 3, `${upcalls} upcalls, ${masks} masks`);
    // A VNI of which only the first bytes were used.
    const next = 0x7f0001;
    tunnel(parseIp('192.0.2.2'), next);
    t.equal(counters().upcalls, upcalls, 'it is refused without being decided');
    host.createNetwork('red', next);
    const red = host.attach({ name: 'red', network: 'red', mac: web.mac, addresses: [web.ip] });
    tunnel(parseIp('192.0.2.2'), next);
    t.equal(red.received.length, 1, 'and carried as soon as there is its network');
    t.equal(port.received.length, 0);
    net.close();
  });
}
