/**
 * What a sender may vary without end is refused by a bounded number of cached flows:
 * the slow path sees a few of the frames, and the others' flows stay where they are.
 */
import t from 'tap';
import { openNativeDatapath } from '../../src/datapath/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference.ts';
import { parseIp, type PortNo } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { udp } from '../support/frames.ts';
import { Random } from '../support/random.ts';

const VNI = 100;
const UNDERLAY_PORT = 1 as PortNo;
const FRAMES = 20_000;
/** Of each byte all values but the right one, and of the last byte perhaps those that are left. */
const MOST_OF_A_BYTE = 255;
const web = { mac: '02:00:00:00:00:01', ip: '10.0.0.1' };
const far = { mac: '02:00:00:00:00:09', ip: '10.0.0.9' };

const datapaths = {
  native: (options: Parameters<typeof openReferenceDatapath>[0]) => openNativeDatapath({ ...options, threads: 0 }),
  reference: openReferenceDatapath,
};

function lab(open: (typeof datapaths)['native']) {
  const net = createSimulation({ open });
  const [a] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
  a.createNetwork('blue', VNI);
  const port = a.attach({ name: 'web', network: 'blue', mac: web.mac, addresses: [web.ip] });
  const { datapath, controller } = a.forwarding;
  const tunnel = (source: Uint8Array, vni: number): void =>
    datapath.injectDatagram(UNDERLAY_PORT, {
      source,
      destination: parseIp('192.0.2.1'),
      sourcePort: 50_000,
      payload: buildVxlan({ vni, frame: udp({ srcMac: far.mac, dstMac: web.mac, src: far.ip, dst: web.ip }, 1, 2) }),
    });
  return { net, host: a, port, tunnel, controller, counters: () => datapath.counters() };
}

/** One of the tries is random all over, the next differs from `right` in its last bytes only. */
function forged(random: Random, right: Uint8Array, first: number): Uint8Array {
  const bytes = right.slice();
  const at = first + random.int(bytes.length - first);
  bytes.set(random.bytes(bytes.length - at), at);
  if (bytes.every((byte, i) => byte === right[i])) bytes[at]! ^= 1;
  return bytes;
}

for (const [name, open] of Object.entries(datapaths)) {
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
    // A VNI of which no more than the first bytes were looked at.
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
