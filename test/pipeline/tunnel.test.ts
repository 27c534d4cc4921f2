/**
 * What the tunnel brings, and what it may not (RFC 7348), on both datapaths:
 *
 *   ┌ a ───────────┐           ┌ b, and others ┐
 *   │ web db (100) │  underlay │               │
 *   └──────────────┴───────────┴───────────────┘
 */
import t, { type Test } from 'tap';
import { openNativeDatapath } from '../../src/datapath/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference.ts';
import { parseIp, type PortNo } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { arpRequest, udp, type Ends } from '../support/frames.ts';

const VNI = 100;
const UNDERLAY_PORT = 1 as PortNo;
const web = { mac: '02:00:00:00:00:01', ip: '10.0.0.1' };
const db = { mac: '02:00:00:00:00:02', ip: '10.0.0.2' };
const far = { mac: '02:00:00:00:00:09', ip: '10.0.0.9' };
const toWeb: Ends = { srcMac: far.mac, dstMac: web.mac, src: far.ip, dst: web.ip };

const datapaths = {
  native: (options: Parameters<typeof openReferenceDatapath>[0]) => openNativeDatapath({ ...options, threads: 0 }),
  reference: openReferenceDatapath,
};

function lab(open: (typeof datapaths)['native']) {
  const net = createSimulation({ open });
  const a = net.host('a', '192.0.2.1');
  const b = net.host('b', '192.0.2.2');
  for (const host of [a, b]) host.createNetwork('blue', VNI);
  const attach = (name: string, { mac, ip }: typeof web) =>
    a.attach({ name, network: 'blue', mac, addresses: [ip], trust: name === 'db' });
  const ports = [attach('web', web), attach('db', db)] as const;
  const { datapath } = a.forwarding;
  const inject = (payload: Uint8Array, source = '192.0.2.2'): void =>
    datapath.injectDatagram(UNDERLAY_PORT, {
      source: parseIp(source),
      destination: parseIp('192.0.2.1'),
      sourcePort: 50_000,
      payload,
    });
  const arrived = (): number => ports.reduce((sum, { received }) => sum + received.length, 0);
  return { net, b, inject, arrived, drops: () => datapath.counters().drops, web: ports[0] };
}

function changed(payload: Uint8Array, at: number, value: number): Uint8Array {
  const copy = payload.slice();
  copy[at] = value;
  return copy;
}

const good = buildVxlan({ vni: VNI, frame: udp(toWeb, 1, 2) });

const refused: Readonly<Record<string, readonly [payload: Uint8Array, source?: string]>> = {
  vxlan_malformed: [changed(good, 0, 0)],
  vxlan_unknown_vni: [buildVxlan({ vni: 101, frame: udp(toWeb, 1, 2) })],
  vxlan_unknown_vtep: [good, '192.0.2.66'],
  vxlan_own_address: [good, '192.0.2.1'],
  vxlan_source_local: [buildVxlan({ vni: VNI, frame: udp({ ...toWeb, srcMac: db.mac }, 1, 2) })],
  bad_source_mac: [buildVxlan({ vni: VNI, frame: udp({ ...toWeb, srcMac: '01:00:5e:00:00:01' }, 1, 2) })],
  vlan_not_carried: [buildVxlan({ vni: VNI, frame: udp({ ...toWeb, vlan: { tpid: 0x8100, tci: 5 } }, 1, 2) })],
};

function comes(t: Test, open: (typeof datapaths)['native'], payload: Uint8Array): void {
  const { net, inject, arrived, drops } = lab(open);
  inject(payload);
  t.same([arrived(), drops()], [1, {}]);
  net.close();
}

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(`from the tunnel on ${name}`, async (t) => {
    t.test('what a peer sends to a container arrives', async (t) => comes(t, open, good));
    t.test('reserved bits and flags mean nothing', async (t) =>
      comes(t, open, changed(changed(changed(good, 0, 0xff), 3, 9), 7, 0xff)),
    );
    for (const [reason, [payload, source]] of Object.entries(refused)) {
      t.test(`${reason}: dropped, and counted`, async (t) => {
        const { net, inject, arrived, drops } = lab(open);
        inject(payload, source);
        t.same([arrived(), drops()], [0, { [reason]: 1 }]);
        net.close();
      });
    }

    t.test('a source MAC of zeros is nobody’s', async (t) => {
      const { net, inject, drops } = lab(open);
      inject(buildVxlan({ vni: VNI, frame: udp({ ...toWeb, srcMac: '00:00:00:00:00:00' }, 1, 2) }));
      t.same(drops(), { bad_source_mac: 1 });
      net.close();
    });

    t.test('what is flooded never goes back into a tunnel; what is behind one neither', async (t) => {
      const { net, b, inject, arrived, drops } = lab(open);
      inject(buildVxlan({ vni: VNI, frame: arpRequest({ srcMac: far.mac, src: far.ip, dst: '10.0.0.77' }) }));
      t.equal(arrived(), 2, 'to both containers');
      t.equal(b.forwarding.datapath.counters().rx, 0, 'and to no host');
      inject(buildVxlan({ vni: VNI, frame: udp({ ...toWeb, srcMac: '02:00:00:00:00:08', dstMac: far.mac }, 1, 2) }));
      t.same(drops(), { split_horizon: 1 });
      net.close();
    });

    t.test('a container that moves is followed at once, by what was cached, too', async (t) => {
      const { net, b, inject, web: port } = lab(open);
      inject(buildVxlan({ vni: VNI, frame: udp(toWeb, 1, 2) }));
      const answer = udp({ srcMac: web.mac, dstMac: far.mac, src: web.ip, dst: far.ip }, 2, 1);
      port.send(answer);
      t.equal(b.forwarding.datapath.counters().rx, 1);
      const c = net.host('c', '192.0.2.3');
      c.createNetwork('blue', VNI);
      inject(buildVxlan({ vni: VNI, frame: udp(toWeb, 1, 2) }), '192.0.2.3');
      port.send(answer);
      t.equal(b.forwarding.datapath.counters().rx, 1, 'not there any more');
      t.equal(c.forwarding.datapath.counters().rx, 1);
      net.close();
    });
  });
}
