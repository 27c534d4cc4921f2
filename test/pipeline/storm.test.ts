/** Storm control of a whole switch: what one port floods, and what it may still send. */
import t from 'tap';
import { createSimulation } from '../../src/simulation.ts';
import { arpRequest, udp } from '../support/frames.ts';

const PER_SECOND = 1000;
const mac = (n: number): string => `02:00:00:00:00:0${n}`;

function network() {
  const net = createSimulation();
  const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
  for (const host of [a, b]) host.createNetwork('blue', 100);
  const ends = { network: 'blue', trust: true };
  return {
    net,
    a,
    b,
    web: a.attach({ ...ends, name: 'web', mac: mac(1), addresses: ['10.0.0.1'] }),
    db: a.attach({ ...ends, name: 'db', mac: mac(2), addresses: ['10.0.0.2'] }),
    far: b.attach({ ...ends, name: 'far', mac: mac(3), addresses: ['10.0.0.3'] }),
  };
}

for (const [what, dstMac] of [
  ['broadcast', 'ff:ff:ff:ff:ff:ff'],
  ['multicast', '33:33:00:00:00:01'],
  ['unknown unicast', mac(9)],
] as const) {
  t.test(`${what} is held back, of a trusted port too`, async (t) => {
    const { net, a, web, db, far } = network();
    const flood = udp({ srcMac: mac(1), dstMac }, 1, 2);
    for (let i = 0; i < 3 * PER_SECOND; i++) web.send(flood);
    t.equal(db.received.splice(0).length, PER_SECOND);
    t.equal(far.received.splice(0).length, PER_SECOND);
    t.match(a.forwarding.datapath.counters().drops, { storm_control: 2 * PER_SECOND });

    const known = udp({ srcMac: mac(1), dstMac: mac(2) }, 1, 2);
    for (let i = 0; i < 2 * PER_SECOND; i++) web.send(known);
    t.equal(db.received.splice(0).length, 2 * PER_SECOND, 'known unicast passes');
    const asked = arpRequest({ srcMac: mac(1), src: '10.0.0.1', dst: '10.0.0.2' });
    for (let i = 0; i < 10; i++) web.send(asked);
    t.equal(web.received.length, 10, 'ARP is answered');
    db.send(udp({ srcMac: mac(2), dstMac }, 1, 2));
    t.equal(far.received.splice(0).length, 1, 'another port may flood');

    net.advance(500);
    for (let i = 0; i < PER_SECOND; i++) web.send(flood);
    t.equal(db.received.length, PER_SECOND / 2, 'half a second later half as many');
    net.close();
  });
}

t.test('what the tunnel brings is held back at ten times as much', async (t) => {
  const { net, a, b, db, web } = network();
  const flood = udp({ srcMac: mac(3), dstMac: 'ff:ff:ff:ff:ff:ff' }, 1, 2);
  const payload = new Uint8Array([8, 0, 0, 0, 0, 0, 100, 0, ...flood]);
  const datagram = { source: b.underlay, destination: a.underlay, sourcePort: 50000, payload };
  const tunnel = a.forwarding.tables.topology.tunnelPort!;
  for (let i = 0; i < 12 * PER_SECOND; i++) a.forwarding.datapath.injectDatagram(tunnel, datagram);
  t.equal(db.received.length, 10 * PER_SECOND);
  t.equal(web.received.length, 10 * PER_SECOND);
  t.match(a.forwarding.datapath.counters().drops, { storm_control: 2 * PER_SECOND });
  net.close();
});
