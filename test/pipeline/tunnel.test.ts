/**
 * What the tunnel may bring, and what not (RFC 7348), on both datapaths:
 *
 *   ┌ a ───────────┐           ┌ b, and others ┐
 *   │ web db (100) │  underlay │               │
 *   └──────────────┴───────────┴───────────────┘
 */
import t, { type Test } from 'tap';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import type { DropReason } from '../../src/flow/reason.ts';
import { formatMac, parseIp, parseMac, type PortNo, type Vni } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { gatewayMac, hostMacOf } from '../../src/table/topology.ts';
import { buildIcmp4, buildIcmp6 } from '../../src/wire/icmp.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { advertisement, arpReply, arpRequest, ethernet, ip, solicitation, udp, type Ends } from '../support/frames.ts';

const VNI = 100;
const UNDERLAY_PORT = 1 as PortNo;
const web = { mac: '02:00:00:00:00:01', ip: '10.0.0.11', ip6: 'fd00::11' };
const db = { mac: '02:00:00:00:00:02', ip: '10.0.0.12', ip6: 'fd00::12' };
const far = { mac: '02:00:00:00:00:09', ip: '10.0.0.19', ip6: 'fd00::19' };
/** On another host than the one that sends. */
const declared = { mac: '02:00:00:00:00:33', ip: '10.0.0.133', ip6: 'fd00::133' };
/** On the host that sends, and trusted. */
const router = { mac: '02:00:00:00:00:44', ip: '10.0.0.144', ip6: 'fd00::144' };
const gateway = { mac: formatMac(gatewayMac(VNI as Vni)), ip: '10.0.0.1', ip6: 'fd00::1' };
const toWeb: Ends = { srcMac: far.mac, dstMac: web.mac, src: far.ip, dst: web.ip };

const datapaths = {
  native: (options: Parameters<typeof openReferenceDatapath>[0]) => openNativeDatapath({ ...options, threads: 0 }),
  reference: openReferenceDatapath,
};

function lab(open: (typeof datapaths)['native']) {
  const net = createSimulation({ open });
  const a = net.host('a', '192.0.2.1');
  const b = net.host('b', '192.0.2.2');
  for (const host of [a, b]) host.createNetwork('blue', VNI, { subnets: ['10.0.0.0/24', 'fd00::/64'] });
  for (const [{ mac, ip, ip6 }, vtep, trust] of [
    [declared, '192.0.2.3', false],
    [router, '192.0.2.2', true],
  ] as const) {
    const addresses = [ip, ip6].map(parseIp);
    a.forwarding.remote.addEndpoint({ vni: VNI as Vni, mac: parseMac(mac), addresses, vtep: parseIp(vtep), trust });
  }
  const attach = (name: string, { mac, ip, ip6 }: typeof web) =>
    a.attach({ name, network: 'blue', mac, addresses: [ip, ip6], trust: name === 'db' });
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
  const counters = () => datapath.counters();
  return { net, b, inject, arrived, drops: () => counters().drops, upcalls: () => counters().upcalls, web: ports[0] };
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

type Who = typeof web;
const everybody = 'ff:ff:ff:ff:ff:ff';
const allNodes = { dst: 'ff02::1', dstMac: '33:33:00:00:00:01' };

const arpOf = ({ mac }: { mac: string }, { ip: src }: { ip: string }): Uint8Array =>
  arpReply({ srcMac: mac, dstMac: web.mac, src, dst: web.ip });
const naOf = ({ mac }: { mac: string }, { ip6 }: { ip6: string }): Uint8Array =>
  advertisement({ srcMac: mac, src: ip6, ...allNodes, target: ip6, options: [{ type: 2, data: parseMac(mac) }] });
const nsOf = (who: Who, src: string): Uint8Array => {
  const options = [{ type: 1, data: parseMac(who.mac) }];
  const ends = { srcMac: who.mac, dstMac: '33:33:ff:00:00:77', src, dst: 'ff02::1:ff00:77' };
  return solicitation({ ...ends, target: 'fd00::77', options });
};
const advertises = (who: Who): Uint8Array[] => [
  ip(
    { srcMac: who.mac, src: 'fe80::9', ...allNodes, ip6: { hopLimit: 255 } },
    58,
    buildIcmp6(parseIp('fe80::9'), parseIp('ff02::1'), { type: 134, code: 0, body: new Uint8Array(12) }),
  ),
  ip(
    { srcMac: who.mac, dstMac: everybody, src: who.ip, dst: '255.255.255.255' },
    1,
    buildIcmp4({ type: 9, code: 0, body: new Uint8Array(12) }),
  ),
];
const serves = (who: Who): Uint8Array[] => [
  udp({ srcMac: who.mac, dstMac: everybody, src: who.ip, dst: '255.255.255.255' }, 67, 68),
  udp({ srcMac: who.mac, dstMac: web.mac, src: who.ip6, dst: web.ip6 }, 547, 546),
];
const toContainer = (srcMac: string): Uint8Array => udp({ ...toWeb, srcMac }, 1, 2);
const control = (dstMac: string): Uint8Array => ethernet({ srcMac: far.mac, dstMac }, 46, new Uint8Array(46));

/** What a known VTEP, 192.0.2.2, claims although this host knows otherwise. */
const lies: readonly (readonly [what: string, reason: DropReason, frames: readonly Uint8Array[]])[] = [
  ['MAC of this host', 'vxlan_source_local', [toContainer(formatMac(hostMacOf(Uint8Array.of(0, 2, 1))))]],
  ['MAC of an endpoint elsewhere', 'vxlan_source_elsewhere', [toContainer(declared.mac)]],
  ['MAC of another network’s gateway', 'vxlan_spoof_gateway', [toContainer(formatMac(gatewayMac(7 as Vni)))]],
  [
    'gateway’s MAC, not on IP',
    'vxlan_spoof_gateway',
    [ethernet({ srcMac: gateway.mac, dstMac: web.mac }, 0x88f7, new Uint8Array(46))],
  ],
  ['gateway’s MAC for another address', 'vxlan_spoof_gateway', [arpOf(gateway, far), naOf(gateway, far)]],
  ['gateway’s address', 'vxlan_spoof_gateway', [arpOf(far, gateway), naOf(far, gateway), nsOf(far, gateway.ip6)]],
  [
    'ARP for a local endpoint',
    'vxlan_spoof_arp',
    [arpOf(far, web), arpRequest({ srcMac: far.mac, src: web.ip, dst: '10.0.0.77' })],
  ],
  ['ARP for an endpoint elsewhere', 'vxlan_spoof_arp', [arpOf(far, declared)]],
  [
    'ARP with the MAC of a local endpoint',
    'vxlan_spoof_arp',
    [ethernet({ srcMac: far.mac, dstMac: web.mac }, 0x0806, arpOf(db, far).subarray(14))],
  ],
  ['ND for a local endpoint', 'vxlan_spoof_nd', [naOf(far, web), nsOf(far, web.ip6)]],
  ['ND for an endpoint elsewhere', 'vxlan_spoof_nd', [naOf(far, declared)]],
  ['router advertisements', 'rogue_ra', advertises(far)],
  ['DHCP servers', 'rogue_dhcp', serves(far)],
  ['spanning tree and LLDP', 'bridge_control', [control('01:80:c2:00:00:00'), control('01:80:c2:00:00:0e')]],
  ['CDP and PVST+', 'cisco_control', [control('01:00:0c:cc:cc:cc'), control('01:00:0c:cc:cc:cd')]],
  ['pause frames', 'mac_control', [ethernet({ srcMac: far.mac, dstMac: web.mac }, 0x8808, new Uint8Array(46))]],
];

/** What it claims that is right. */
const truths: readonly (readonly [what: string, frames: readonly Uint8Array[]])[] = [
  ['who is known to be nowhere', [toContainer(far.mac), arpOf(far, far), naOf(far, far), nsOf(far, far.ip6)]],
  ['what it is declared to have', [toContainer(router.mac), arpOf(router, router), naOf(router, router)]],
  ['what is routed', [toContainer(gateway.mac)]],
  ['a gateway that asks', [arpRequest({ srcMac: gateway.mac, src: gateway.ip, dst: '10.0.0.77' })]],
  ['probes, and detections of duplicates', [arpRequest({ srcMac: far.mac, src: '0.0.0.0', dst: web.ip })]],
  ['a trusted router and DHCP server', [...advertises(router), ...serves(router)]],
  ['other EtherTypes', [ethernet({ srcMac: far.mac, dstMac: web.mac }, 0x88f7, new Uint8Array(46))]],
];

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

    for (const [what, reason, frames] of lies) {
      t.test(`${what}: ${reason}`, async (t) => {
        const { net, inject, arrived, drops, upcalls } = lab(open);
        for (const frame of frames) for (let i = 0; i < 3; i++) inject(buildVxlan({ vni: VNI, frame }));
        t.same([arrived(), drops()], [0, { [reason]: 3 * frames.length }]);
        t.equal(upcalls(), frames.length, 'the refusal is cached');
        net.close();
      });
    }

    for (const [what, frames] of truths) {
      t.test(`${what}: arrives`, async (t) => {
        for (const frame of frames) {
          const { net, inject, arrived, drops } = lab(open);
          inject(buildVxlan({ vni: VNI, frame }));
          t.same([arrived() > 0, drops()], [true, {}]);
          net.close();
        }
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
