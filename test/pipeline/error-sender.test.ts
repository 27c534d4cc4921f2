/**
 * ICMP errors about connections by somebody who has no part in them, on both datapaths; transcripts 13, 24 and 27 have more.
 *
 *   ┌ a ────────────────────────────┐   ┌ b ─────────────────────────┐
 *   │ client (red)  x (red)         │   │ far (red)                  │
 *   │ y (green)  outside            │   │                            │
 *   └───────────────────────────────┘   └────────────────────────────┘
 */
import t from 'tap';
import { formatMac, type Vni } from '../../src/flow/types.ts';
import { createSimulation, type SimulatedPort } from '../../src/simulation.ts';
import { gatewayMac, OUTSIDE_HOST_MAC, OUTSIDE_MAC } from '../../src/table/topology.ts';
import { IP_UDP } from '../../src/wire/ipv4.ts';
import { udp, type Ends } from '../support/frames.ts';
import { policyOf } from '../support/policy/tables.ts';
import { backend, service, servicePort } from '../support/services.ts';
import { datapaths, icmp } from './outside-lab.ts';

const RED = 100;
const gateway = formatMac(gatewayMac(RED as Vni));
const client = { mac: '02:00:00:00:00:01', ip: '10.1.0.2' };
const x = { mac: '02:00:00:00:00:02', ip: '10.1.0.7' };
const far = { mac: '02:00:00:00:00:03', ip: '10.1.0.9' };
const y = { mac: '02:00:00:00:00:05', ip: '10.2.0.9' };
const stranger = '203.0.113.9';
const transit = '169.254.77.2';
const outsideMacs = { srcMac: formatMac(OUTSIDE_HOST_MAC), dstMac: formatMac(OUTSIDE_MAC) };

for (const [name, open] of Object.entries(datapaths)) {
  const lab = () => {
    const net = createSimulation({ open, sharesStore: true });
    const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
    const routes = [{ to: '10.2.0.0/24', network: 'green' }];
    for (const host of [a, b]) {
      host.createNetwork('red', RED, { subnets: ['10.1.0.0/24'], outside: true, routes });
      host.createNetwork('green', 200, { subnets: ['10.2.0.0/24'] });
    }
    const attach = (host: typeof a, what: string, { mac, ip }: typeof x, network = 'red') =>
      host.attach({ name: what, network, mac, addresses: [ip] });
    const ports = {
      ...{ client: attach(a, 'client', client), x: attach(a, 'x', x), y: attach(a, 'y', y, 'green') },
      far: attach(b, 'far', far),
    };
    const outside = a.openOutside({ transit: [transit] });
    return { net, a, b, ...ports, outside };
  };
  const isolate = ({ forwarding }: ReturnType<typeof lab>['a'], port: string, spec: object): void => {
    const identity = { namespace: 'default', labels: {}, namespaceLabels: {}, ports: [] };
    const metadata = { name: port, namespace: 'default' };
    const policy = policyOf({ kind: 'NetworkPolicy', metadata, spec: { podSelector: {}, ...spec } });
    forwarding.tables.policies.setSubject(port, { identity, policies: [policy], onDeny: 'drop' });
    forwarding.controller.enforce();
  };
  /** A port is unreachable, as somebody says to whom that packet was not sent. */
  const error = (ends: Ends, about: Uint8Array): Uint8Array =>
    icmp(ends, 'ip4', 3, 3, new Uint8Array([0, 0, 0, 0, ...about.subarray(14, 42)]));
  const dropsOf = ({ forwarding }: ReturnType<typeof lab>['a']) => forwarding.datapath.counters().drops;
  const got = ({ received }: SimulatedPort): number => received.splice(0).length;

  /** Somebody outside has a connection to `far`, by a node port of `a`. */
  const enter = ({ a, b, outside }: ReturnType<typeof lab>): void => {
    const backends = [backend(far.ip, { vni: RED as Vni, host: 'b', endpoint: 'default/far' })];
    const ports = [servicePort(1, { protocol: IP_UDP, l4Port: 53, nodePort: 30_053 })];
    for (const { forwarding } of [a, b]) forwarding.setService(service({ backends, ports }));
    outside.send(udp({ ...outsideMacs, src: stranger, dst: transit }, 8001, 30_053));
  };

  t.test(`${name}: a container of the host that a client comes to does not speak of its connection`, async (t) => {
    const all = lab();
    enter(all);
    t.equal(got(all.far), 1);
    const answer = udp({ src: far.ip, dst: stranger }, 8080, 8001);
    all.x.send(error({ srcMac: x.mac, dstMac: gateway, src: x.ip, dst: far.ip }, answer));
    t.equal(got(all.far), 0);
    t.match(dropsOf(all.b), { icmp_unrelated: 1 });
    all.net.close();
  });

  for (const direction of ['Egress', 'Ingress'] as const) {
    t.test(`${name}: quoting another one’s connection leads past no policy for ${direction}`, async (t) => {
      const all = lab();
      const { a, net } = all;
      for (const port of direction === 'Egress' ? ['x'] : ['client', 'y'])
        isolate(a, port, { policyTypes: [direction] });
      all.client.send(udp({ srcMac: client.mac, dstMac: gateway, src: client.ip, dst: stranger }, 4000, 53));
      t.equal(got(all.outside), 1, 'the client has a connection');
      const answer = udp({ src: stranger, dst: client.ip }, 53, 4000);
      for (const { ip } of [client, y])
        all.x.send(error({ srcMac: x.mac, dstMac: gateway, src: x.ip, dst: ip }, answer));
      t.same([got(all.client), got(all.y)], [0, 0]);
      t.match(dropsOf(a), { [`policy_${direction.toLowerCase()}`]: 2 });
      net.close();
    });
  }

  t.test(`${name}: an error of a router outside is let in with the connection, by which host it comes`, async (t) => {
    const all = lab();
    const from = [{ ipBlock: { cidr: `${stranger}/32` } }];
    isolate(all.b, 'far', { policyTypes: ['Ingress'], ingress: [{ from, ports: [{ protocol: 'UDP', port: 8080 }] }] });
    enter(all);
    t.equal(got(all.far), 1);
    all.far.send(udp({ srcMac: far.mac, dstMac: gateway, src: far.ip, dst: stranger }, 8080, 8001));
    const [answer] = all.outside.received.splice(0);
    all.outside.send(error({ ...outsideMacs, src: '198.51.100.1', dst: transit }, answer!));
    t.equal(got(all.far), 1);
    t.same(dropsOf(all.b), {});
    all.net.close();
  });
}
