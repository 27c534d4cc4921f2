/**
 * The pipeline decides about frames that weft itself sends, as about all others: whom it asks for a neighbor, the path
 * to one that it knows, and what the sender of a packet that is too large is told.
 */
import t from 'tap';
import { formatActions } from '../../src/flow/action.ts';
import { extract } from '../../src/flow/extract.ts';
import { fields } from '../../src/flow/fields.ts';
import { emptyKey, writeNumber, type FlowKey } from '../../src/flow/key.ts';
import { parseIp, parseMac, type Vni } from '../../src/flow/types.ts';
import { neighborRequest } from '../../src/pipeline/reply.ts';
import { renderText } from '../../src/pipeline/text.ts';
import { createSimulation } from '../../src/simulation.ts';
import { OWN_PORT } from '../../src/table/topology.ts';
import { udp } from '../support/frames.ts';

const vni = 100 as Vni;
const mac = (n: number): string => `02:00:00:00:00:0${n}`;

function lab() {
  const net = createSimulation();
  const [a] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
  const routes = [{ to: '10.2.0.0/24', network: 'blue' }];
  a.createNetwork('red', vni, { subnets: ['10.1.0.0/24', 'fd01::/64'], mtu: 1400, routes });
  a.createNetwork('blue', 200, { subnets: ['10.2.0.0/24'], mtu: 1300 });
  const web = a.attach({ name: 'web', network: 'red', mac: mac(1), addresses: ['10.1.0.2', 'fd01::2'] });
  const carrier = a.attach({
    name: 'carrier',
    network: 'red',
    mac: mac(2),
    addresses: ['10.1.0.3'],
    allowedAddresses: ['10.1.0.100', 'fd01::100'],
  });
  const router = a.attach({ name: 'router', network: 'red', mac: mac(3), addresses: ['10.1.0.4'], trust: true });
  const { forwarding } = a;
  const { topology } = forwarding.tables;
  const decide = (frame: Uint8Array, network = vni) => {
    const key = emptyKey();
    extract(frame, key);
    writeNumber(key, fields.in_port, OWN_PORT);
    writeNumber(key, fields.tun_vni, network);
    return forwarding.controller.decide(key, frame);
  };
  const request = (ip: string, to?: string) =>
    neighborRequest(topology, vni, parseIp(ip), to === undefined ? undefined : parseMac(to));
  return { net, forwarding, web, carrier, router, decide, request };
}

for (const address of ['10.1.0.100', 'fd01::100']) {
  t.test(`who has ${address}: those who may, and all other hosts`, async (t) => {
    const { net, forwarding, carrier, router, decide, request } = lab();
    const decision = decide(request(address));
    const sent = [`output(${carrier.portNo})`, `output(${router.portNo})`, 'encap(vni=100,vtep=192.0.2.2)'];
    t.equal(formatActions(decision.actions), `mtu(1400), ${sent.join(', ')}`);
    t.notOk(decision.cacheable, 'each is decided by itself');
    t.same(
      decision.stages.map(({ stage }) => stage),
      ['ingress', 'connection', 'service', 'route', 'bridge', 'send'],
    );
    t.equal(renderText(decision.stages[4]!.because), `who has ${address}: ask 2 ports and 1 VTEP`);

    forwarding.closeUnderlay(forwarding.tables.topology.tunnelPort!);
    const alone = decide(request('10.1.0.77'));
    t.match(
      formatActions(alone.actions),
      new RegExp(`output\\(${router.portNo}\\)$`),
      'without an underlay, those here',
    );
    forwarding.removePort(router.portNo);
    t.equal(decide(request('10.1.0.77')).reason, 'underlay_missing', 'nobody at all');
    forwarding.remote.removeVtep(parseIp('192.0.2.2'));
    t.equal(decide(request('10.1.0.77')).reason, 'no_destination');
    net.close();
  });
}

t.test('one that is known is asked where it is, and nowhere else', async (t) => {
  const { net, web, decide, request } = lab();
  t.equal(formatActions(decide(request('10.1.0.2', mac(1))).actions), `output(${web.portNo})`);
  t.equal(decide(request('10.1.0.9', mac(9))).reason, 'no_destination');
  t.equal(decide(request('10.1.0.9'), 7 as Vni).reason, 'no_destination', 'in a network that does not exist');
  net.close();
});

t.test('what is too large is told of by a decision for that packet alone', async (t) => {
  const { net, forwarding, web } = lab();
  const { controller, tables } = forwarding;
  const gateway = tables.topology.network(vni)!.gateways[0]!;
  const decide = (dontFragment: boolean, packetBytes?: number) => {
    const ends = { srcMac: mac(1), dstMac: '02:77:66:00:00:64', src: '10.1.0.2', dst: '10.2.0.9' };
    const frame = udp({ ...ends, ip4: { dontFragment } }, 1000, 2000);
    const key: FlowKey = emptyKey();
    extract(frame, key);
    writeNumber(key, fields.in_port, web.portNo);
    return controller.decide(key, frame, packetBytes);
  };
  forwarding.remote.addEndpoint({
    vni: 200 as Vni,
    mac: parseMac(mac(9)),
    addresses: [parseIp('10.2.0.9')],
    vtep: parseIp('192.0.2.2'),
    trust: false,
  });
  const small = decide(true);
  t.match(formatActions(small.actions), /^track, mtu\(1300\)/);
  t.same([small.cacheable, small.effects], [true, []]);
  t.same([decide(true, 1300).cacheable, decide(true, 1300).effects], [true, []], 'what fits is like any other');

  const large = decide(true, 1301);
  t.same([large.cacheable, formatActions(large.actions)], [false, formatActions(small.actions)]);
  t.match(large.effects, [{ kind: 'too_big', port: web.portNo, mtu: 1300, from: { ip: gateway } }]);
  t.same(decide(false, 1301).effects, [], 'without DF it is fragmented, and nobody is told');
  net.close();
});
