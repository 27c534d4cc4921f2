/** Frames from the tunnel that conflict with this host are reported, within bounds, and only as long as it is so. */
import t, { type Test } from 'tap';
import { KEPT_MS, MOST_OF_A_KIND, type Clash } from '../../src/control/clashes.ts';
import { formatIp, formatMac, parseIp, parseMac, type PortNo, type Vni } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { advertisement, arpRequest, udp } from '../support/frames.ts';

const VNI = 100 as Vni;
const OTHER = 778 as Vni;
const [here, peer, stranger] = ['192.0.2.1', '192.0.2.2', '192.0.2.66'];
const web = { mac: '02:00:00:00:00:01', ip: '10.0.0.1', ip6: 'fd00::1' };
const far = { mac: '02:00:00:00:00:09', ip: '10.0.0.9' };

function lab(t: Test) {
  const net = createSimulation();
  t.teardown(() => net.close());
  const host = net.host('a', here);
  net.host('b', peer);
  host.createNetwork('blue', VNI);
  const port = host.attach({ name: 'web', network: 'blue', mac: web.mac, addresses: [web.ip, web.ip6] });
  const { forwarding } = host;
  const brings = (vtep: string, frame: Uint8Array, vni = Number(VNI)): void =>
    forwarding.datapath.injectDatagram(1 as PortNo, {
      source: parseIp(vtep),
      destination: parseIp(here),
      sourcePort: 50_000,
      payload: buildVxlan({ vni, frame }),
    });
  const comes = (vtep: string, { vni = Number(VNI), srcMac = far.mac } = {}): void =>
    brings(vtep, udp({ srcMac, dstMac: web.mac, src: far.ip, dst: web.ip }, 1, 2), vni);
  const told = (): string[] => forwarding.controller.clashes.all(net.nowMs).map(({ clash }) => clashText(clash));
  return { net, host, port, forwarding, brings, comes, told };
}

function clashText(clash: Clash): string {
  const vtep = formatIp(clash.vtep);
  if (clash.kind === 'stranger') return `${vtep} is a stranger`;
  if (clash.kind === 'address') return `${vtep} has ${formatIp(clash.ip)}`;
  return clash.kind === 'vni' ? `${vtep} has VNI ${clash.vni}` : `${vtep} has ${formatMac(clash.mac)}`;
}

t.test('what fits is no clash', async (t) => {
  const { comes, told, port } = lab(t);
  comes(peer);
  t.equal(port.received.length, 1);
  t.same(told(), []);
});

t.test('a sender that is no peer, until it is one', async (t) => {
  const { comes, told, forwarding } = lab(t);
  comes(stranger);
  comes(stranger, { vni: OTHER });
  t.same(told(), [`${stranger} is a stranger`], 'whatever the VNI');
  forwarding.remote.addVtep(parseIp(stranger));
  t.same(told(), []);
});

t.test('a VNI of a peer that no network has, until one has it', async (t) => {
  const { comes, told, host } = lab(t);
  comes(peer, { vni: OTHER });
  t.same(told(), [`${peer} has VNI ${OTHER}`]);
  host.createNetwork('red', OTHER);
  t.same(told(), []);
});

t.test('the MAC of an endpoint of this host, until that is gone', async (t) => {
  const { comes, told, forwarding, port } = lab(t);
  comes(peer, { srcMac: web.mac });
  t.equal(port.received.length, 0);
  t.same(told(), [`${peer} has ${web.mac}`]);
  forwarding.removePort(port.portNo);
  t.same(told(), []);
});

t.test('the address of an endpoint of this host, until that is gone', async (t) => {
  const { brings, told, forwarding, port } = lab(t);
  const lla = [{ type: 2, data: parseMac(far.mac) }];
  const all = { dst: 'ff02::1', dstMac: '33:33:00:00:00:01' };
  brings(peer, arpRequest({ srcMac: far.mac, src: web.ip, dst: web.ip }));
  brings(peer, advertisement({ srcMac: far.mac, src: web.ip6, ...all, target: web.ip6, options: lla }));
  t.equal(port.received.length, 0);
  t.same(told(), [`${peer} has ${web.ip}`, `${peer} has ${web.ip6}`]);
  forwarding.removePort(port.portNo);
  t.same(told(), []);
});

t.test('the MAC by which this host asks for neighbors: both have one identity', async (t) => {
  const { comes, told, forwarding, port } = lab(t);
  const own = formatMac(forwarding.tables.topology.hostMac);
  comes(peer, { srcMac: own });
  t.equal(port.received.length, 0);
  t.same(told(), [`${peer} has ${own}`]);
});

for (const [family, ip] of [
  ['IPv4', '10.0.0.10'],
  ['IPv6', 'fd00::10'],
] as const) {
  t.test(`an ${family} address on two hosts: one announces it, both say so, and nobody goes on about it`, async (t) => {
    const net = createSimulation();
    t.teardown(() => net.close());
    const [a, b, other] = [net.host('a', here), net.host('b', peer), net.host('c', '192.0.2.3')];
    for (const host of [a, b, other]) host.createNetwork('blue', VNI);
    const attached = { name: 'web', network: 'blue', addresses: [ip] };
    const first = a.attach({ ...attached, mac: web.mac });
    const second = b.attach({ ...attached, mac: far.mac });
    const told = (): string[][] =>
      [a, b].map(({ forwarding }) => forwarding.controller.clashes.all(net.nowMs).map(({ clash }) => clashText(clash)));
    const came = (): number[] => [a, b, other].map(({ forwarding }) => forwarding.datapath.counters().rx);
    const announce = (): void => {
      b.forwarding.announce(second.portNo);
      net.advance(0);
    };
    t.same(told(), [[], []]);
    announce();
    t.same(told(), [[`${peer} has ${ip}`], [`${here} has ${ip}`]]);
    // The announcement to everybody, and the answer to its sender; nobody replies to the sender's own answer any more.
    t.same(came(), [2, 1, 1]);
    for (let i = 0; i < 100; i++) announce();
    t.same(came(), [102, 1, 101]);
    a.forwarding.removePort(first.portNo);
    t.same(told()[0], [], 'until one of them is gone');
  });
}

t.test('it is told for as long as frames come, whoever decided them, and some time longer', async (t) => {
  const { net, comes, told } = lab(t);
  const stepMs = 5000;
  for (let ms = 0; ms < 2 * KEPT_MS; ms += stepMs) {
    comes(stranger);
    net.advance(stepMs);
  }
  t.same(told(), [`${stranger} is a stranger`]);
  net.advance(KEPT_MS - 2 * stepMs);
  t.same(told(), [`${stranger} is a stranger`]);
  net.advance(2 * stepMs);
  t.same(told(), []);
});

t.test('forged senders and VNIs take no more than their room, and nothing from another kind', async (t) => {
  const { comes, told } = lab(t);
  comes(peer, { srcMac: web.mac });
  // Each differs from the peers, or from the VNI of the network, only in its last byte. The first of the others is
  // reported.
  for (let i = 3; i < 255; i++) comes(`192.0.2.${i}`);
  for (let i = 1; i < 256; i++) if (i !== VNI) comes(peer, { vni: i });
  const all = told();
  t.equal(all.length, 2 * MOST_OF_A_KIND + 1);
  t.ok(all.includes('192.0.2.254 is a stranger'), 'the latest');
  t.ok(all.includes(`${peer} has ${web.mac}`));
});
